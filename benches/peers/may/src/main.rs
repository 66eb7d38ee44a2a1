//! may_minihttp: stackful coroutines. It knows Content-Length, no other bodies and no files.

use args::{ANSWER, Args};
use may_minihttp::{HttpServer, HttpService, Request, Response};
use std::io::{self, BufRead};

fn main() -> io::Result<()> {
    let args = Args::read();
    may::config().set_workers(args.threads).set_pool_capacity(1000).set_stack_size(0x1000);
    let server = HttpServer(Hello).start(args.address())?;
    server.join().map_err(|_| io::Error::other("the server panicked"))
}

#[derive(Clone)]
struct Hello;

impl HttpService for Hello {
    fn call(&mut self, request: Request, response: &mut Response) -> io::Result<()> {
        match (request.method(), request.path()) {
            ("GET", "/") => response.body(ANSWER),
            ("POST", "/" | "/upload") => {
                response.body_vec(count(&mut request.body())?.to_string().into_bytes())
            }
            _ => {
                response.status_code(404, "Not Found");
            }
        }
        response.header("Content-Type: text/plain; charset=utf-8");
        Ok(())
    }
}

fn count(body: &mut impl BufRead) -> io::Result<usize> {
    let mut octets = 0;
    loop {
        let piece = body.fill_buf()?.len();
        if piece == 0 {
            return Ok(octets);
        }
        octets += piece;
        body.consume(piece);
    }
}
