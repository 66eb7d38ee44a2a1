//! ntex on io_uring (its runtime neon), with ntex-files for the site.

use args::{ANSWER, Args};
use ntex::http::HttpServiceConfig;
use ntex::time::Seconds;
use ntex::util::Bytes;
use ntex::web::{self, App, HttpServer};
use ntex::{SharedCfg, http};
use std::io;

#[ntex::main]
async fn main() -> io::Result<()> {
    let args = Args::read();
    let (listener, threads) = (args.listener()?, args.threads);
    let limits = HttpServiceConfig::new()
        .set_keepalive(http::KeepAlive::Timeout(Seconds(args::KEEP_ALIVE_SECONDS)))
        .set_client_timeout(Seconds(args::KEEP_ALIVE_SECONDS));
    let root = args.root;
    HttpServer::new(async move || {
        App::new()
            .service((
                web::resource("/").route(web::get().to(async || ANSWER)).route(web::post().to(count)),
                web::resource("/upload").route(web::post().to(count)),
            ))
            .service(ntex_files::Files::new("/", root.clone().unwrap_or_else(|| ".".into())))
    })
    .workers(threads)
    .config(SharedCfg::new("versus").add(limits))
    .listen(listener)?
    .run()
    .await
}

async fn count(mut body: web::types::Payload) -> Result<String, http::error::PayloadError> {
    let mut octets = 0;
    while let Some(piece) = body.recv().await {
        octets += piece.as_ref().map_or(0, Bytes::len);
        piece?;
    }
    Ok(octets.to_string())
}
