"""The figures: a function of plain arrays draws each."""

from ar_adals_tf.lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    levels="draw_levels draw_by_level draw_soft_labels draw_level_agreement "
    "draw_by_number_of_levels",
    reliability="draw_reliability_diagram draw_reliability_curves "
    "draw_smooth_reliability",
    notebook="Diagram reliability_diagram",
    uncertain="Uncertain draw_intervals draw_floor share_interval",
    comparisons="draw_over_setting draw_boxes_by_severity draw_entropy_histograms "
    "draw_single_and_ensemble",
    attacks="draw_grid_of_lines draw_reliability_grid draw_l2_success",
    trade_off="draw_front draw_trade_off",
    certificates="draw_certificates",
    style="METHOD_STYLES method_styles draw_line save png",
)
