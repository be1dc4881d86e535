"""Other ways to search, behind one small Protocol (``space.Method``): is tabu search the right one? Measured, not argued."""
