"""The engines' Python environments: recipes, installation, inventory and ``doctor``."""
