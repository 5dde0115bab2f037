"""The endpoints as MCP tools, asked for by a client of the protocol."""

import asyncio
import base64

import pytest

pytest.importorskip("mcp", reason="the package mcp is not installed")
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client


@pytest.mark.slow
def test_a_tool_for_each_endpoint(page, png):
    _, url, _ = page.launch(
        prevent_thread_lock=True, quiet=True, share=False, ssr_mode=False, server_name="127.0.0.1", mcp_server=True
    )
    content = base64.b64encode(png.read_bytes()).decode()

    async def ask():
        async with (
            streamable_http_client(f"{url}gradio_api/mcp/") as (reading, writing, _),
            ClientSession(reading, writing) as session,
        ):
            await session.initialize()
            tools = (await session.list_tools()).tools
            calls = (
                ("info", {}),
                ("report", {"file": f"data:image/png;base64,{content}"}),
                ("report", {"file": f"{url}a.png"}),
            )
            return tools, [(await session.call_tool(*call)).content[0].text for call in calls]

    try:
        tools, (info, report, refused) = asyncio.run(ask())
    finally:
        page.close()
    assert [tool.name for tool in tools] == ["report", "report_batch", "info"]
    assert all(tool.description for tool in tools)
    assert "xr2text-tiny 0.1.0" in info and "impression" in report
    assert "Send the file itself" in refused
