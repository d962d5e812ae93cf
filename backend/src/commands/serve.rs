//! `firn serve`: serves the registry.

use super::{Failure, builder::BuilderArgs, secrets};
use crate::{
    config::{ClientArgs, MetricsArgs, SecretArgs, seconds},
    http::{self, App, MetricsAccess, ReadyManifests, router},
    images::Builder,
    process::descriptors,
    upkeep::look_after,
};
use clap::{ArgAction, Args};
use firn_shared::Digest;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Time limit for the remaining requests once all builds have ended.
const GRACE: Duration = Duration::from_secs(10);
/// Time limit for threads that pack, after that. Their files are removed afterwards.
const PACKING_GRACE: Duration = Duration::from_secs(1);

#[derive(Debug, Args)]
pub(super) struct ServeArgs {
    /// Address and port to listen on
    #[arg(long, env = "FIRN_LISTEN", value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,

    #[command(flatten)]
    secret: SecretArgs,

    #[command(flatten)]
    metrics: MetricsArgs,

    /// Seconds that a request waits for its build before the client is told to come back
    #[arg(long, env = "FIRN_WAIT", value_name = "SECONDS", value_parser = seconds(), default_value_t = 25)]
    wait: u64,

    /// Seconds that running builds get to finish when the server is told to end (SIGTERM); clients of unfinished
    /// builds are told to come back
    #[arg(long, env = "FIRN_GRACE", value_name = "SECONDS", value_parser = seconds(), default_value_t = 5)]
    grace: u64,

    /// Whether versions, descriptions and main programs of all packages are collected in the background, at low
    /// priority, once a client has asked for a name that does not exist
    #[arg(
        long,
        env = "FIRN_SURVEY",
        value_name = "BOOL",
        default_value_t = true,
        action = ArgAction::Set
    )]
    survey: bool,

    #[command(flatten)]
    clients: ClientArgs,

    #[command(flatten)]
    builder: BuilderArgs,
}

impl ServeArgs {
    /// The options that concern building.
    pub(super) fn builder(&self) -> &BuilderArgs {
        &self.builder
    }
}

pub(super) fn run(args: ServeArgs) -> Result<(), Failure> {
    let runtime = tokio::runtime::Runtime::new().map_err(|error| Failure::error(&error))?;
    let result = runtime.block_on(serve(args));
    // No client waits for a layer that is packed in the background.
    runtime.shutdown_timeout(PACKING_GRACE);
    result.map(|builder| builder.remove_files())
}

/// Serves until a signal says so. Returns the builder, which may still be packing.
async fn serve(args: ServeArgs) -> Result<Arc<Builder>, Failure> {
    let secret = secrets::edge_secret(&args.secret)?;
    if secret.is_none() && !args.listen.ip().is_loopback() {
        tracing::warn!(
            address = %args.listen,
            "every client that reaches this address is answered; set FIRN_SECRET_FILE to let in only the edge"
        );
    }
    let metrics = match secrets::metrics_token(&args.metrics)? {
        Some(token) => MetricsAccess::Bearer(Digest::of(token.as_bytes())),
        None if secret.is_none() && args.listen.ip().is_loopback() => MetricsAccess::Open,
        None => MetricsAccess::Closed,
    };
    let (hand_back, ending) = watch::channel(false);
    let (stop, mut stopped) = watch::channel(false);
    let policy = args.builder.retention.policy();
    let wait = Duration::from_secs(args.wait);
    let clients = args.clients;
    let app = App {
        ending,
        builder: args
            .builder
            .builder_of_server(
                secrets::secret_file(&args.secret)
                    .into_iter()
                    .chain(args.metrics.metrics_token_file)
                    .collect(),
            )
            .await?,
        secret: secret.map(Arc::new),
        metrics,
        wait,
        manifests: ReadyManifests::new(policy.grace),
    };
    let builder = Arc::clone(&app.builder);
    if args.survey {
        builder.packages().allow_surveys();
    }
    let listener = TcpListener::bind(args.listen)
        .await
        .map_err(|error| Failure::Error(format!("cannot listen on {}: {error}", args.listen)))?;
    let address = listener.local_addr().map_err(|error| Failure::error(&error))?;
    let open_files = descriptors::raise();
    tracing::info!(%address, open_files, "listening");
    let upkeep = tokio::spawn(look_after(builder.store().clone(), policy, stopped.clone()));
    let mut server = tokio::spawn(async move {
        let told_to_stop = async {
            // An error means that the sender was dropped. Stop in that case too.
            let _ = stopped.wait_for(|stopped| *stopped).await;
        };
        http::serve(listener, router(app), &clients, told_to_stop).await;
    });
    tokio::select! {
        ended = &mut server => ended.map(|()| builder).map_err(|error| Failure::error(&error)),
        grace = told_to_end(Duration::from_secs(args.grace)) => {
            tracing::info!(grace_seconds = grace.as_secs(), "ending");
            builder.close();
            let is_idle = tokio::select! {
                () = builder.idle() => true,
                () = tokio::time::sleep(grace) => false,
                // A second signal: do not wait any longer.
                _ = told_to_end(grace) => false,
            };
            // If no build is left, every waiting request is about to be answered.
            if !is_idle {
                tracing::info!(builds = builder.building(), "telling the clients of unfinished builds to come back");
                hand_back.send_replace(true);
            }
            stop.send_replace(true);
            builder.nix().end_all().await;
            if tokio::time::timeout(GRACE, server).await.is_err() {
                tracing::warn!("some requests did not end in time");
            }
            if tokio::time::timeout(GRACE, upkeep).await.is_err() {
                tracing::warn!("the upkeep of the storage did not end in time");
            }
            Ok(builder)
        }
    }
}

/// Returns when a signal arrives, with the time that builds get: `grace` on SIGTERM, none on Ctrl-C.
async fn told_to_end(grace: Duration) -> Duration {
    let mut term = signal(SignalKind::terminate()).expect("signals can be handled");
    let mut interrupt = signal(SignalKind::interrupt()).expect("signals can be handled");
    tokio::select! {
        _ = term.recv() => grace,
        _ = interrupt.recv() => Duration::ZERO,
    }
}
