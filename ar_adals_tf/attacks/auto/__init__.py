"""AutoAttack (Croce and Hein, 2020) and attacks on confidence, in compiled TensorFlow.

`rows` keeps a batch full of images under attack. `apgd`, `fab` and `square` are the
attacks, `losses` what APGD raises, `autoattack` the order in which they take turns.
"""
