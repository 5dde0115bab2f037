import gradio as gr

from xr2text.export.text import NOTICE


def test_the_page_bears_its_notice_and_model(page, real_reporter):
    texts = " ".join(str(block.value) for block in page.blocks.values() if isinstance(block, gr.HTML))
    assert NOTICE in texts and real_reporter.model_name in texts and "right is on the left" in texts


def test_nothing_is_reported_home(page):
    assert page.analytics_enabled is False
