//! An S3 server over a directory: `s3s-fs` with atomic conditional puts.
//!
//! `s3s-fs` checks whether an object exists, and then writes it. If two clients create the object at the same time,
//! both succeed. Real services do both in one step. Here, requests with conditions wait for each other.

use clap::Parser;
use hyper::{Request, body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
};
use s3s::{auth::SimpleAuth, service::S3ServiceBuilder};
use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::Mutex;

#[derive(Parser)]
struct Options {
    /// Address to listen on
    #[arg(long, default_value = "127.0.0.1")]
    host: String,

    /// Port to listen on; 0 lets the system choose one, which is logged
    #[arg(long, default_value_t = 9000)]
    port: u16,

    /// The only access key
    #[arg(long)]
    access_key: String,

    /// Its secret
    #[arg(long)]
    secret_key: String,

    /// The directory whose directories are the buckets
    root: PathBuf,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse();
    tracing_subscriber::fmt()
        .pretty()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_ansi(false)
        .init();
    let files = s3s_fs::FileSystem::new(options.root).map_err(|error| format!("{error:?}"))?;
    let mut service = S3ServiceBuilder::new(files);
    service.set_auth(SimpleAuth::from_single(options.access_key, options.secret_key));
    let service = service.build();
    let conditional = Arc::new(Mutex::new(()));
    let listener = TcpListener::bind((options.host, options.port)).await?;
    tracing::info!("server is running at http://{}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        let (service, conditional) = (service.clone(), Arc::clone(&conditional));
        let handler = service_fn(move |request: Request<Incoming>| {
            let (service, conditional) = (service.clone(), Arc::clone(&conditional));
            async move {
                let has_condition =
                    ["if-none-match", "if-match"].iter().any(|name| request.headers().contains_key(*name));
                let _alone = if has_condition { Some(conditional.lock().await) } else { None };
                hyper::service::Service::call(&service, request).await
            }
        });
        tokio::spawn(async move {
            let connection = Builder::new(TokioExecutor::new());
            // It does not matter if a client disconnects.
            let _ = connection.serve_connection(TokioIo::new(stream), handler).await;
        });
    }
}
