"""The tour that `quickstart` gives: four methods, compared, on embedded images."""
