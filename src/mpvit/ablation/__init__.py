"""What a change of the network costs, and what it costs at the same budget: one named edit a row, in closed form.

Every figure of a row is its baseline's plus a difference, and every difference the sum of its parts', to the integer.
"""
