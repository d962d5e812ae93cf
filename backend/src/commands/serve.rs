//! `firn serve`: the registry.

use super::{Failure, builder::BuilderArgs};
use crate::{
    build::Builder,
    config::{ClientArgs, MetricsArgs, SecretArgs, seconds},
    descriptors,
    http::{self, App, MetricsAccess, ReadyManifests, router},
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

/// How long requests that are under way may take once all builds have ended.
const GRACE: Duration = Duration::from_secs(10);
/// How long threads that pack are waited for then. Their files are removed afterwards.
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

    /// Seconds that running builds are given to end when the server is told to (SIGTERM); what is not built then is
    /// handed back to its clients
    #[arg(long, env = "FIRN_GRACE", value_name = "SECONDS", value_parser = seconds(), default_value_t = 5)]
    grace: u64,

    /// Whether versions, descriptions and main programs of all packages are collected in the background, at low
    /// priority, once somebody has asked for a name that is not there
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
    /// The options that have to do with building.
    pub(super) fn builder(&self) -> &BuilderArgs {
        &self.builder
    }
}

pub(super) fn run(args: ServeArgs) -> Result<(), Failure> {
    let runtime = tokio::runtime::Runtime::new().map_err(|error| Failure::error(&error))?;
    let result = runtime.block_on(serve(args));
    // A layer that is packed in the background: nobody waits for it.
    runtime.shutdown_timeout(PACKING_GRACE);
    result.map(|builder| builder.remove_files())
}

/// Serves until a signal says so. Returns the builder, which may still be packing.
async fn serve(args: ServeArgs) -> Result<Arc<Builder>, Failure> {
    let secret = args.secret.secret()?;
    if secret.is_none() && !args.listen.ip().is_loopback() {
        tracing::warn!(
            address = %args.listen,
            "everybody who reaches this address is answered; FIRN_SECRET_FILE lets in only the edge"
        );
    }
    let metrics = match args.metrics.token()? {
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
                args.secret.file().into_iter().chain(args.metrics.metrics_token_file).collect(),
            )
            .await?,
        secret: secret.map(Arc::new),
        metrics,
        wait,
        manifests: ReadyManifests::new(policy.grace),
    };
    let builder = Arc::clone(&app.builder);
    if args.survey {
        builder.allow_surveys();
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
            // An error means that the sender is gone, which is a reason to stop too.
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
                // Somebody is losing patience.
                _ = told_to_end(grace) => false,
            };
            // Whoever waits for a build that has ended is about to be answered.
            if !is_idle {
                tracing::info!(builds = builder.building(), "handing back to the clients what is not built");
                hand_back.send_replace(true);
            }
            stop.send_replace(true);
            builder.nix().end_all().await;
            if tokio::time::timeout(GRACE, server).await.is_err() {
                tracing::warn!("some requests did not end in time");
            }
            if tokio::time::timeout(GRACE, upkeep).await.is_err() {
                tracing::warn!("the storage did not end in time");
            }
            Ok(builder)
        }
    }
}

/// Returns when a signal says so, with the time that builds are given: none when a person at the keyboard waits.
async fn told_to_end(grace: Duration) -> Duration {
    let mut term = signal(SignalKind::terminate()).expect("signals can be handled");
    let mut interrupt = signal(SignalKind::interrupt()).expect("signals can be handled");
    tokio::select! {
        _ = term.recv() => grace,
        _ = interrupt.recv() => Duration::ZERO,
    }
}
