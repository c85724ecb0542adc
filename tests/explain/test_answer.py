import base64
import io

import numpy as np
from PIL import Image

from fracray.captions.captioner import Caption
from fracray.explain.answer import NO_REGION, answer
from fracray.explain.heat_map import heat_maps
from fracray.explain.overlay import BOX_COLOUR
from fracray.fusion.training import Pipeline
from fracray.radiographs.read import Radiograph
from tests.explain.conftest import bundle_of, squares

SEEN = Radiograph((squares(2, 11).pixels[1] / 255).astype(np.float32), 8, "PNG")
BLANK = Radiograph(np.full((90, 60), 0.4, np.float32), 8, "PNG")
CAPTION = Caption("Bright square.", "ok")


def test_the_box_of_the_answer_is_that_of_the_fused_map_and_is_drawn(pipeline: Pipeline) -> None:
    bundle = bundle_of(pipeline, "explain.method=layercam")
    (reply,) = answer(bundle, [SEEN], [CAPTION])
    assert reply.hottest_box is not None
    assert reply.heat_map_method == "layercam"
    assert NO_REGION not in reply.warnings
    (expected,) = heat_maps(bundle, [SEEN], ["Bright square."])
    box = reply.hottest_box
    assert (box.xmin, box.ymin, box.xmax, box.ymax) == expected.box
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(reply.overlay_png or ""))))
    assert tuple(picture[box.ymin, box.xmin]) == BOX_COLOUR
    assert tuple(picture[box.ymax - 1, box.xmax - 1]) == BOX_COLOUR


def test_without_a_region_the_answer_says_so(pipeline: Pipeline) -> None:
    seen, blank = answer(bundle_of(pipeline), [SEEN, BLANK], [CAPTION, Caption(None, "failed", "asleep")])
    assert seen.hottest_box is not None
    assert blank.hottest_box is None
    assert blank.overlay_png is not None
    assert blank.warnings[-2:] == ["no caption (asleep): the decision rests on the image alone", NO_REGION]


def test_without_an_overlay_there_is_no_map_and_no_word_about_it(pipeline: Pipeline) -> None:
    (reply,) = answer(bundle_of(pipeline), [BLANK], [CAPTION], with_overlay=False)
    assert (reply.hottest_box, reply.heat_map_method, reply.overlay_png) == (None, None, None)
    assert NO_REGION not in reply.warnings


def test_the_method_changes_no_probability(pipeline: Pipeline) -> None:
    replies = [
        answer(bundle_of(pipeline, f"explain.method={method}"), [SEEN], [CAPTION])[0]
        for method in ("gradcam", "eigencam")
    ]
    assert replies[0].probability == replies[1].probability
    assert replies[0].contributions == replies[1].contributions


def test_a_picture_unlike_the_training_radiographs_is_called_so(pipeline: Pipeline) -> None:
    familiar = [Radiograph((pixels / 255).astype(np.float32), 8, "PNG") for pixels in squares(40, 12).pixels]
    other = [BLANK, Radiograph(np.random.default_rng(1).random((64, 64), np.float32), 8, "PNG")]
    replies = answer(bundle_of(pipeline), [*familiar, *other], [CAPTION] * 42, with_overlay=False)
    unlike = [any(w.startswith("unlike the phantoms") for w in reply.warnings) for reply in replies]
    assert unlike[-2:] == [True, True]
    assert sum(unlike[:-2]) <= 4
