"""What the lesson notebooks call: computations, figures, and checks of the exercises."""
