"""Kinds of attention compared as the number of tokens grows: in closed form, measured, and in half precision."""
