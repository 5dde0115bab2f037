"""The endpoints as MCP tools, asked for by a client of the protocol."""

import asyncio
import base64
import io

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("mcp", reason="the package mcp is not installed")
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client

from xr2text.inference.reporter import Reporter
from xr2text.phantom.drawing import draw_phantom
from xr2text.ui.examples import ExampleShelf
from xr2text.ui.page import build_page


def test_a_tool_for_each_endpoint(tiny_checkpoint, tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "gradio"))
    monkeypatch.setattr("gradio.mcp.DEFAULT_TEMP_DIR", str(tmp_path / "gradio"))
    shelf = ExampleShelf(tmp_path / "cache", "http://127.0.0.1:9/", timeout=0.2)
    page = build_page(Reporter.from_pretrained(tiny_checkpoint), shelf)
    _, url, _ = page.launch(
        prevent_thread_lock=True, quiet=True, share=False, ssr_mode=False, server_name="127.0.0.1", mcp_server=True
    )

    content = io.BytesIO()
    Image.fromarray((draw_phantom(1, 160, ()).pixels * 255).astype(np.uint8)).save(content, "PNG")
    film = base64.b64encode(content.getvalue()).decode()

    async def ask():
        async with (
            streamable_http_client(f"{url}gradio_api/mcp/") as (reading, writing, _),
            ClientSession(reading, writing) as session,
        ):
            await session.initialize()
            tools = (await session.list_tools()).tools
            calls = (
                ("info", {}),
                ("report", {"file": f"data:image/png;base64,{film}"}),
                ("report", {"file": f"{url}a.png"}),
            )
            return tools, [(await session.call_tool(*one)).content[0].text for one in calls]

    try:
        tools, (told, report, refused) = asyncio.run(ask())
    finally:
        page.close()
    assert [one.name for one in tools] == ["report", "report_batch", "info"]
    assert all(one.description for one in tools)
    assert "xr2text-tiny 0.1.0" in told and "impression" in report
    assert "Send the file itself" in refused
