//! actix-web, with actix-files for the site (precompressed siblings are sent to those who take them).

use actix_web::http::KeepAlive;
use actix_web::{App, HttpServer, web};
use args::{ANSWER, Args};
use futures_util::StreamExt;
use std::io;
use std::time::Duration;

fn main() -> io::Result<()> {
    let args = Args::read();
    let (listener, threads) = (args.listener()?, args.threads);
    let server = HttpServer::new(move || {
        let app = App::new()
            .route("/", web::get().to(async || ANSWER))
            .route("/", web::post().to(count))
            .route("/upload", web::post().to(count));
        let root = args.root.clone();
        app.configure(|app| {
            root.into_iter().for_each(|root| {
                app.service(actix_files::Files::new("/", root).try_compressed());
            })
        })
    })
    .workers(threads)
    .keep_alive(KeepAlive::Timeout(Duration::from_secs(args::KEEP_ALIVE_SECONDS.into())))
    .client_request_timeout(Duration::from_secs(args::KEEP_ALIVE_SECONDS.into()))
    .listen(listener)?
    .run();
    actix_web::rt::System::new().block_on(server)
}

async fn count(mut body: web::Payload) -> actix_web::Result<String> {
    let mut octets = 0;
    while let Some(piece) = body.next().await {
        octets += piece?.len();
    }
    Ok(octets.to_string())
}
