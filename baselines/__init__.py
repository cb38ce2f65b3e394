"""Results, and the command that fills the tables of the documents with them."""
