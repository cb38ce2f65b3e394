"""What the files of a run must hold, said once, and checked where they are read.

`form` has the forms that values may have and the functions that check them,
`run_files` describes each JSON and CSV file of a run by them. The settings in
`config.json` are declared in `ar_adals_tf.experiment.settings` already.
"""
