"""Calibration measures of predicted probabilities and labels, in plain NumPy."""

from ar_adals_tf.lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    measures="DEFAULT_NUM_BINS ReliabilityBins LevelMeasures "
    "expected_calibration_error confidence_calibration_error "
    "adaptive_calibration_error classwise_calibration_error "
    "reliability_bins summary more_measures by_level bin_edges bin_index",
    scores="SMALLEST_PROBABILITY accuracy mean_confidence negative_log_likelihood "
    "brier_score",
    selective="area_under_risk_coverage coverage_at_risk normalised_logit_confidence "
    "by_normalised_logit threshold_at_recall error_above",
    stability="prediction_variance prediction_variance_by_image disagreement",
    detection="predictive_entropy ood_scores",
    temperature="MIN_TEMPERATURE MAX_TEMPERATURE fit_temperature apply_temperature "
    "log_probabilities",
    floor="DEFAULT_DRAWS Floor calibration_floor floor_by_level floor_by_class "
    "classwise_floor expected_floor floor_draws",
    bootstrap="MEASURES ImageScores image_scores stacked_scores",
    inference="Interval bootstrap_intervals intervals_of_runs paired_difference "
    "indistinguishable_from_best",
    certainty="Certainty certainty_of_sets",
    debiased="debiased_calibration_error debiased_square_error",
    smooth="SmoothReliability smooth_calibration_error smooth_error_draws "
    "smooth_reliability",
    refinement="Decomposition decompose_nll decompose_brier refinement_nll "
    "TEMPERATURES least_nll",
    posthoc="VectorScaling MarginTemperature LevelTemperatures fit_vector_scaling "
    "fit_margin_temperature fit_level_temperatures logit_margin centred",
    checks="are_probabilities check_probabilities check_labels",
    kinds="kind_of as_logits logits_from classes_from refuse_probabilities",
)
