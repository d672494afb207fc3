//! HTTP, for those who do not speak the native protocol: every node takes every request.

mod connections;
mod headers;
mod keys;
mod members;
mod operator;
mod problem;
mod sessions;
mod submit;
mod unsupported;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use kv::command::VALUE_BYTES_MAX;
use raft_node::Handle;
use raft_transport_tcp::rivals::CopyAlarm;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::http::connections::{Connections, count};
use crate::http::problem::Problem;

/// How long the head of a request may take to arrive.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a whole request may take, its answer included.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a change of the members may take.
pub(crate) const CHANGE_TIMEOUT: Duration = Duration::from_secs(25);
/// After a connection could not be accepted, when that is tried again, and how often it is logged at most.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);
const ACCEPT_LOG_INTERVAL: Duration = Duration::from_secs(10);
/// The most calls of operators at once. Each has a client of its own.
pub(crate) const OPERATIONS_MAX: usize = 8;
/// The bytes that the heads of requests may have.
const HEADER_BYTES_MAX: usize = 16 << 10;

/// What every request can use.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) handle: Handle,
    /// Where this node's native protocol is served, for its status.
    pub(crate) listen: String,
    /// Tells of processes that run with a copy of a member's data.
    pub(crate) copies: CopyAlarm,
    /// How long a change of the members may take.
    pub(crate) patience: Duration,
}

/// A server that runs.
#[derive(Debug)]
pub(crate) struct Server {
    stop: watch::Sender<bool>,
    accepting: JoinHandle<()>,
}

impl Server {
    /// Begins to serve connections of `listener`, so many at once.
    pub(crate) fn start(listener: TcpListener, connections_max: usize, app: App) -> Server {
        let (stop, stopped) = watch::channel(false);
        let accepting = tokio::spawn(accept(listener, connections_max, router(Arc::new(app)), stopped));
        Server { stop, accepting }
    }

    /// Takes no further connections, and gives the requests under way some time to end.
    pub(crate) async fn stop(self, grace: Duration) {
        // Without a receiver left, everything has ended already.
        let _ = self.stop.send(true);
        let _ = tokio::time::timeout(grace, self.stop.closed()).await;
        self.accepting.abort();
    }
}

/// All that is served, without the connections. The fuzz target `http` asks it, too.
pub(crate) fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/v1/kv", get(keys::list))
        .route(unsupported::KEY_PATH, get(keys::get).put(keys::put).delete(keys::delete))
        .route("/v1/kv/{key}/incr", post(keys::incr))
        .route("/v1/sessions", post(sessions::open))
        .route("/v1/sessions/{session}", axum::routing::delete(sessions::close))
        .route("/v1/sessions/{session}/keep-alive", post(sessions::keep_alive))
        .route("/v1/members", get(members::list).post(members::add))
        .route("/v1/members/{id}", axum::routing::patch(members::change).delete(members::remove))
        .route("/v1/leader", post(members::transfer))
        .route("/v1/snapshots", post(members::snapshot))
        .route("/v1/status", get(operator::status))
        .route("/healthz", get(operator::health))
        .route("/readyz", get(operator::ready))
        .route("/metrics", get(operator::metrics))
        .route_layer(axum::middleware::from_fn(unsupported::refuse))
        .fallback(async || Problem::not_found())
        .method_not_allowed_fallback(async || Problem::method_not_allowed())
        .layer(DefaultBodyLimit::max(VALUE_BYTES_MAX))
        .with_state(app)
}

async fn accept(listener: TcpListener, connections_max: usize, router: Router, mut stopped: watch::Receiver<bool>) {
    let connections = Connections::new(connections_max);
    let mut logged: Option<Instant> = None;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopped.changed() => return,
        };
        match accepted {
            Ok((stream, _)) => {
                // Answers are small and go out at once; a socket that cannot do so is only slower.
                let _ = stream.set_nodelay(true);
                let place = tokio::select! {
                    place = connections.place() => place,
                    _ = stopped.changed() => return,
                };
                let router = router.clone().layer(axum::middleware::from_fn_with_state(place.counted(), count));
                let stopped = stopped.clone();
                tokio::spawn(async move {
                    tokio::select! {
                        () = serve(stream, router, stopped) => {}
                        () = place.closed() => {}
                    }
                });
            }
            Err(error) => {
                // Out of descriptors, say: an idle connection gives one up, and those who wait are taken a little later.
                if logged.is_none_or(|logged| logged.elapsed() >= ACCEPT_LOG_INTERVAL) {
                    logged = Some(Instant::now());
                    tracing::warn!(%error, "could not accept an HTTP connection; it is tried again");
                }
                connections.shed();
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Serves one connection until its end. The fuzz target `http` brings its own.
pub(crate) async fn serve<C>(connection: C, router: Router, mut stopped: watch::Receiver<bool>)
where
    C: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let service = TowerToHyperService::new(router.layer(axum::middleware::from_fn(limit_time)));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(HEADER_BYTES_MAX)
        .serve_connection(TokioIo::new(connection), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        _ = stopped.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "an HTTP connection ended early");
    }
}

/// Answers a request that takes too long, a body that trickles in say.
async fn limit_time(
    request: axum::extract::Request,
    next: axum::middleware::Next,
) -> Result<axum::response::Response, Problem> {
    let reads = request.method().is_safe();
    let answered = tokio::time::timeout(REQUEST_TIMEOUT, next.run(request)).await;
    answered.map_err(|_| if reads { Problem::too_slow() } else { Problem::timeout() })
}
