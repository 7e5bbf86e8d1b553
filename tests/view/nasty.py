from __future__ import annotations

NASTY = (
    "</script><script>alert(1)</script> <b>\"bold\" & 'quoted'</b>\n\t<!-- 你好，世界 👩‍🚀 é --> "
    "{{ data }} {% x %} \\u003c"
)
"""What breaks pages that take text for markup."""
