//! A program that is its own client: through no socket, and through one that a `Server` answers.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;
use uringd::config::Options;
use uringd::{Gone, InPieces, Reply, Request, Response, Server, Status};

fn greet(request: &Request<'_>) -> Result<Response, Status> {
    let name = request.query_value("name").ok_or(Status::BAD_REQUEST)?;
    Ok(Response::text(format!("hello {name}")).with_header("ETag", "\"a\""))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut client = uringd::test::client(greet);
    assert_eq!(client.get("/?name=J%C3%BCrgen").text(), "hello Jürgen");
    assert_eq!(client.get("/").status(), 400);

    let mut client = uringd::test::client(InPieces(|request: &Request<'_>| {
        let mut pieces = request.pieces();
        Reply::later(async move {
            // an answer that begins before the request has ended would end it
            let mut content = Vec::new();
            while let Some(piece) = pieces.next().await {
                content.extend_from_slice(&piece?);
            }
            let (mut sender, response) = Response::channel();
            std::thread::spawn(move || {
                content.chunks(5).try_for_each(|piece| sender.blocking_send(piece.to_vec()))?;
                sender.finish();
                Ok::<(), Gone>(())
            });
            std::io::Result::Ok(response)
        })
    }));
    assert_eq!(client.post("/echo", "what comes in goes out").text(), "what comes in goes out");

    let server = Server::with_options(&Options {
        listen: vec!["127.0.0.1:0".parse()?],
        kill_timeout: Duration::from_secs(1),
        ..Options::default()
    })?;
    let (address, stop) = (server.local_addr(), server.stop_handle());
    let asking = std::thread::spawn(move || -> std::io::Result<String> {
        let mut client = TcpStream::connect(address)?;
        client.write_all(b"GET /?name=you HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        let read = client.read_to_string(&mut answer);
        stop.stop();
        read.map(|_| answer)
    });
    server.serve(greet)?;
    let answer = asking.join().expect("no panic")?;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("hello you"), "{answer}");
    Ok(())
}
