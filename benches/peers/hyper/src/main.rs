//! hyper 1.x: one current-thread runtime and one listening socket (SO_REUSEPORT) a thread.

use args::{ANSWER, Args};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use std::io;
use std::thread;
use tokio::net::TcpListener;

fn main() -> io::Result<()> {
    let args = Args::read();
    let listeners = (0..args.threads).map(|_| args.listener()).collect::<io::Result<Vec<_>>>()?;
    let threads: Vec<_> = listeners.into_iter().map(|own| thread::spawn(move || serve(own))).collect();
    for thread in threads {
        thread.join().expect("a thread serves for ever")?;
    }
    Ok(())
}

fn serve(listener: std::net::TcpListener) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        let listener = TcpListener::from_std(listener)?;
        loop {
            let (stream, _) = listener.accept().await?;
            tokio::task::spawn_local(async move {
                let mut server = http1::Builder::new();
                server.pipeline_flush(true);
                // its end, whatever the reason, is the client's to notice
                let _ = server.serve_connection(TokioIo::new(stream), service_fn(answer)).await;
            });
        }
    })
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let content = match (request.method(), request.uri().path()) {
        (&Method::GET, "/") => Bytes::from_static(ANSWER.as_bytes()),
        (&Method::POST, "/" | "/upload") => Bytes::from(count(request.into_body()).await?.to_string()),
        _ => {
            let mut answer = Response::new(Full::default());
            *answer.status_mut() = StatusCode::NOT_FOUND;
            return Ok(answer);
        }
    };
    Ok(Response::builder()
        .header("Content-Type", "text/plain; charset=utf-8")
        .body(Full::new(content))
        .expect("its fields are in order"))
}

async fn count(mut body: Incoming) -> Result<usize, hyper::Error> {
    let mut octets = 0;
    while let Some(frame) = body.frame().await {
        octets += frame?.data_ref().map_or(0, Bytes::len);
    }
    Ok(octets)
}
