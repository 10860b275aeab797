"""Every network of a stated space in closed form: those within limits, ranked, and the Pareto front of what they cost.

Nothing here predicts how accurate a network becomes: a search says what fits, and a criterion what to try first.
"""
