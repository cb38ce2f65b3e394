"""See whether a cheap distance ranks the images as an expensive one does.

    python -m ar_adals_tf.compare_indexes --indexes=cw.npz,margin.npz

prints the rank correlation of two robustness indexes of the same images, the shares of
images in the same level and within one level, and the time that each index took. With
--output_file=agreement.png it also draws where the images of each level of the first
index lie in the second.
"""

from absl import flags

from ar_adals_tf import command_line
from ar_adals_tf.errors import InputError


def main() -> None:
    """Compare the two indexes that the flags name."""
    from ar_adals_tf import captions, figures, files
    from ar_adals_tf.indexing import agreement
    from ar_adals_tf.robustness import RobustnessIndex

    paths, num_levels, picture = command_line.values(
        "indexes", "num_levels", "output_file"
    )
    if len(paths or []) != 2:
        raise InputError(
            f"--indexes needs two index files, separated by a comma; received {paths}"
        )
    if picture:
        files.writable_file(picture, "--output_file", [".png", ".pdf", ".svg"], paths)
    first, second = (RobustnessIndex.load(path) for path in paths)
    found = agreement(first, second, num_levels)
    for index in (first, second):
        seconds = index.metadata.get("seconds")
        print(f"{index}" + (f"; took {seconds:,.1f} s" if seconds else ""))
    print(
        f"Spearman {found.spearman:.4f}; of {num_levels} levels the same one "
        f"{found.same_level:.1%}, within one {found.within_one:.1%}"
    )
    if picture:
        names = [str(i.metadata.get("attack", "index")) for i in (first, second)]
        figures.save(
            figures.draw_level_agreement(found.table, names[0], names[1]),
            picture,
            caption=captions.LEVEL_AGREEMENT,
        )
        print(f"drawn into {picture}")


flags.DEFINE_list("indexes", None, "Two index files, separated by a comma.")

flags.DEFINE_integer("num_levels", 10, "Number R of robustness levels.", lower_bound=1)

flags.DEFINE_string("output_file", None, "A picture to draw, .png, .pdf or .svg.")

if __name__ == "__main__":
    command_line.run(main)
