"""Bodies of multipart/form-data requests, as a browser writes them."""

BOUNDARY = "----moonshine-test-7MA4YWxk"


def multipart(*parts, boundary=BOUNDARY):
    """parts: (name, text) or (name, bytes, filename[, type]); -> type, body."""
    lines = []
    for name, data, *file in parts:
        head = f'Content-Disposition: form-data; name="{name}"'
        if file:
            head += f'; filename="{file[0]}"'
        if len(file) > 1:
            head += f"\r\nContent-Type: {file[1]}"
        data = data if isinstance(data, bytes) else data.encode()
        lines.append(b"--" + boundary.encode() + b"\r\n" + head.encode() +
                     b"\r\n\r\n" + data + b"\r\n")
    lines.append(b"--" + boundary.encode() + b"--\r\n")
    return f"multipart/form-data; boundary={boundary}", b"".join(lines)


def post_form(node, target, *parts):
    kind, body = multipart(*parts)
    return node.request("POST", target, {"Content-Type": kind}, body)
