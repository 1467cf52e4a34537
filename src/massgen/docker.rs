//! Whether commands of MassGen's agents can run in Docker containers on this machine. It opens a connection without sending data and starts
//! no program.

use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// The timeout for a TCP connection.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
/// The address that Docker's Python client uses without `DOCKER_HOST`.
const DEFAULT_ADDRESS: &str = "unix:///var/run/docker.sock";
/// The file by which MassGen detects that it runs in a container (`filesystem_manager/_filesystem_manager.py`).
const CONTAINER_MARKER_FILE: &str = "/.dockerenv";

/// What MassGen finds if a config asks for Docker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DockerEngine {
    /// This is a container: MassGen runs the commands in it and starts no other container.
    InContainer,
    /// An engine accepts connections, or its address is of a kind that cannot be checked cheaply.
    Reachable,
    /// Nothing accepts connections at this address.
    Unreachable(String),
}

impl DockerEngine {
    /// Checks the engine, for at most half a second. `host` is `DOCKER_HOST` as MassGen receives it.
    pub fn find(host: Option<&str>) -> DockerEngine {
        if Path::new(CONTAINER_MARKER_FILE).exists() {
            return DockerEngine::InContainer;
        }
        DockerEngine::probe(host.filter(|host| !host.is_empty()).unwrap_or(DEFAULT_ADDRESS))
    }

    fn probe(address: &str) -> DockerEngine {
        let is_listening = match address.split_once("://") {
            Some(("unix", path)) => UnixStream::connect(path).is_ok(),
            Some(("tcp" | "http" | "https", host_and_port)) => accepts_tcp(host_and_port.trim_end_matches('/')),
            Some(_) | None => true,
        };
        if is_listening { DockerEngine::Reachable } else { DockerEngine::Unreachable(address.to_owned()) }
    }
}

/// Host names are not resolved, since that can take many seconds.
fn accepts_tcp(host_and_port: &str) -> bool {
    let address: Option<SocketAddr> = host_and_port.replace("localhost", "127.0.0.1").parse().ok();
    address.is_none_or(|address| TcpStream::connect_timeout(&address, CONNECT_TIMEOUT).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_is_reachable_if_it_accepts_connections() {
        let folder = tempfile::tempdir().expect("temp");
        let path = folder.path().join("docker.sock");
        let unix = format!("unix://{}", path.display());
        assert_eq!(DockerEngine::probe(&unix), DockerEngine::Unreachable(unix.clone()));
        let listener = std::os::unix::net::UnixListener::bind(&path).expect("bound");
        assert_eq!(DockerEngine::probe(&unix), DockerEngine::Reachable);
        drop(listener);
        assert_eq!(DockerEngine::probe(&unix), DockerEngine::Unreachable(unix.clone()), "its file is still there");
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
        let tcp = format!("tcp://{}", listener.local_addr().expect("address"));
        assert_eq!(DockerEngine::probe(&tcp), DockerEngine::Reachable);
        drop(listener);
        assert_eq!(DockerEngine::probe(&tcp), DockerEngine::Unreachable(tcp.clone()));
        for unknown in ["ssh://me@there", "tcp://some.host.example:2375", "npipe:////./pipe/docker"] {
            assert_eq!(DockerEngine::probe(unknown), DockerEngine::Reachable, "{unknown} is not tried");
        }
    }
}
