"""Randomised smoothing: how far from an image the prediction provably stays.

The *smoothed* classifier answers with the class that the model predicts for most noisy
copies of an image (Cohen, Rosenfeld and Kolter, 2019). `radius` has the equations,
`votes` what noisy copies say, `drawing` how they are drawn on a device, and
`noisy_model` the smoothed classifier as a model that can be attacked.
"""
