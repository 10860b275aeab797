"""The kinds of attention as the number of tokens grows: costs in closed form, measurements, fits, numerics."""
