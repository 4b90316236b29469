"""Two runs held against each other: what their models look at, how they see entities, and what they answer."""
