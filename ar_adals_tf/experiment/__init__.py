"""What a run is: its settings, its recipe, its folder."""
