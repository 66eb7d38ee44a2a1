"""What a Python program does with an HTTP server: python3 client.py FILES-URL MIRROR-URL FILE-OF-STYLE.CSS"""
import http.client
import sys
import urllib.error
import urllib.request

files, mirror, style_path = sys.argv[1:]
with open(style_path, "rb") as file:
    style = file.read()


def connect(url):
    return http.client.HTTPConnection(url.removeprefix("http://"), timeout=20)


def ask(connection, method, path, body=None, headers=None, **more):
    connection.request(method, path, body, headers or {}, **more)
    response = connection.getresponse()
    return response, response.read()


def keeps_its_connection():
    connection = connect(files)
    connection.connect()
    local = connection.sock.getsockname()
    for number in range(200):
        response, body = ask(connection, "GET", f"/style.css?{number}")
        assert (response.status, body) == (200, style)
        response, body = ask(connection, "HEAD", "/style.css")
        assert (response.status, body) == (200, b"")
        assert response.getheader("Content-Length") == str(len(style))
        assert connection.sock.getsockname() == local
    response, _ = ask(connection, "GET", "/", headers={"Connection": "close"})
    assert response.getheader("Connection") == "close" and connection.sock is None


def asks_for_ranges():
    connection = connect(files)
    for value, part in [("bytes=0-9", style[:10]), ("bytes=-10", style[-10:]), ("bytes=5-", style[5:])]:
        response, body = ask(connection, "GET", "/style.css", headers={"Range": value})
        assert (response.status, body) == (206, part), value
    tag = response.getheader("ETag")
    response, body = ask(connection, "GET", "/style.css", headers={"Range": "bytes=0-9", "If-Range": tag})
    assert (response.status, body) == (206, style[:10])
    response, body = ask(connection, "GET", "/style.css", headers={"Range": "bytes=0-9", "If-Range": '"other"'})
    assert (response.status, body) == (200, style)
    response, body = ask(connection, "GET", "/style.css", headers={"If-None-Match": tag})
    assert (response.status, body) == (304, b"")
    response, _ = ask(connection, "GET", "/style.css", headers={"Range": "bytes=9999999-"})
    assert response.status == 416


def sends_chunks():
    connection = connect(mirror)
    for _ in range(3):
        pieces = (b"%d" % (number % 10) * 10_000 for number in range(90))
        response, body = ask(connection, "POST", "/chunks", pieces, {"Transfer-Encoding": "chunked"}, encode_chunked=True)
        assert (response.status, body) == (200, b"POST /chunks 1.1\ncontent 900000 octets: " + b"0" * 64 + b"\n")
    with open("upload", "rb") as file:
        response, body = ask(connection, "PUT", "/file", file)
    assert body.startswith(b"PUT /file 1.1\ncontent 921600 octets: "), body
    response, body = ask(connection, "DELETE", "/nothing")
    assert body == b"DELETE /nothing 1.1\ncontent 0 octets: \n"


def reads_streams():
    connection = connect(mirror)
    response, body = ask(connection, "GET", "/stream?n=100&size=10000")
    assert response.getheader("Transfer-Encoding") == "chunked" and len(body) == 1_000_000
    connection.request("GET", "/stream-broken")
    try:
        connection.getresponse().read()
    except http.client.IncompleteRead as error:
        assert error.partial == b"one two ", error.partial
    else:
        raise AssertionError("a broken stream passed for a whole one")


def opens_urls():
    with urllib.request.urlopen(files + "/docs", timeout=20) as response:
        assert response.geturl() == files + "/docs/"
    try:
        urllib.request.urlopen(files + "/nothing", timeout=20)
    except urllib.error.HTTPError as error:
        assert error.code == 404
    else:
        raise AssertionError("what is not there was found")


keeps_its_connection()
asks_for_ranges()
sends_chunks()
reads_streams()
opens_urls()
print("ok")
