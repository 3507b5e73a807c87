"""The command line. Nothing is imported before it is needed: names and help lines stand here."""

import sys
from pathlib import Path

from pipeline.registry import Registry, run_command_line

STAGES = {
    "import-gan": ("stages.import_gan", "Bring in a generator: a shipped one or your own."),
    "train-gan": ("stages.train_gan", "Train a StyleGAN2 on renders or your images."),
    "invert": ("stages.invert", "Find the latents of your own pictures."),
    "annotate-views": ("stages.annotate_views", "Find viewpoint codes of a generator and label them."),
    "generate-views": ("stages.generate_views", "Render every object from every viewpoint code."),
    "filter-views": ("stages.filter_views", "Keep images of exactly one large object."),
    "annotate-parts": ("stages.annotate_parts", "Label the parts of a few generated images."),
    "export-labels": ("stages.export_labels", "Give samples to labelme, COCO, Label Studio or CVAT."),
    "import-labels": ("stages.import_labels", "Bring labels back from them, checked; photos too."),
    "train-interpreter": ("stages.train_interpreter", "Train the Style Interpreter on the labelled images."),
    "select": ("stages.select", "Choose which generated samples to label next."),
    "synthesize": ("stages.synthesize", "Synthesise labelled images, uncertain ones dropped."),
    "label-views": ("stages.label_views", "Label parts and keypoints of every multi-view image."),
    "train-inverse-graphics": ("stages.train_inverse_graphics", "Learn image -> textured mesh from the views."),
    "reconstruct": ("stages.reconstruct", "Turn pictures into textured meshes with parts."),
    "synthesize-3d": ("stages.synthesize_3d", "Label views through meshes: parts, depth, keypoints."),
    "export": ("stages.export", "Write the labelled set in formats others read."),
    "train-downstream": ("stages.train_downstream", "Train networks on the labelled set; measure them."),
    "report": ("stages.report", "Write one HTML page that shows what the run made."),
    "train-annotator": ("stages.train_annotator", "Train the part and pose network on renders."),
    "train-detector": ("stages.train_detector", "Train the filter's Mask R-CNN on rendered scenes."),
    "inspect": ("stages.inspect", "Check a data set byte by byte; show what it holds."),
    "run": ("stages.run", "Run the chain that a configuration file lists."),
    "status": ("stages.status", "Show what a run holds, what is stale and why."),
}

cli = Registry(
    STAGES,
    name="cli",
    help="A dataset factory from image GANs: labelled images and multi-view sets from a generator.",
    epilog="`python cli.py COMMAND --help` is the manual of a command. "
    "Start with `python cli.py run --config configs/quickstart.toml`.",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """Run the command line of this process."""
    program = "python cli.py" if Path(sys.argv[0]).name == "cli.py" else Path(sys.argv[0]).name
    sys.exit(run_command_line(cli, sys.argv[1:], program))


if __name__ == "__main__":
    main()
