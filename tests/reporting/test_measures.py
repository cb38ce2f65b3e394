"""How measures are called, scaled and rounded."""

from ar_adals_tf.reporting.items import MEASURES, Cell, Column, measures


def test_a_measure_gives_columns_and_cells():
    accuracy, nll, brier = measures("accuracy", "nll", "brier")
    assert accuracy.column() == Column("Accuracy (%)", 1, "up")
    assert accuracy.column("Acc", 2) == Column("Acc", 2, "up")
    assert nll.column() == Column("NLL (nats)", 3, "down")
    assert nll.column(digits=0).digits == 0
    assert brier.heading("under shift") == "Brier under shift"
    found = [{"accuracy": 0.5, "nll": 2.0}, {"accuracy": 0.7, "nll": 2.0}]
    assert accuracy.values(found) == [50, 70]
    assert nll.cell(found, 3.0) == Cell(2.0, 0.0, 2, 3.0)
    assert nll.cell([]) == Cell()


def test_every_measure_is_known_by_its_own_name():
    assert all(name == measure.name for name, measure in MEASURES.items())
