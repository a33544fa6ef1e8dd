//! Encrypted connections. The authorities are read at each connect, so that a renewed file is
//! found.

use crate::adapters::redis::errors::{BACKEND, Failure, Fate};
use crate::error::{Error, ErrorKind};
use crate::runtime::spawn_blocking;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// For the driver's connections: rustls has no crypto provider of its own, and their first
/// handshake without one panics.
pub(in crate::adapters::redis) fn prepare() {
    // An error says that the program has chosen one already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Encrypts a connection to `host`, whose certificate one of the authorities has signed: those in
/// the file `ca_cert`, or the system's.
pub(in crate::adapters::redis) async fn encrypt(
    stream: TcpStream,
    host: &str,
    ca_cert: Option<&Path>,
) -> Result<TlsStream<TcpStream>, Failure> {
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| Error::config("the host is no name that a certificate could bear"))?;
    let ca_cert = ca_cert.map(Path::to_path_buf);
    let panicked =
        |_| Failure::new(ErrorKind::Unavailable, "the certificates were not read", Fate::Drop);
    let roots = spawn_blocking(move || authorities(ca_cert)).await.map_err(panicked)??;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|_| Error::config("the TLS library has no version of the protocol"))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await.map_err(|cause| {
        let error = Error::new(ErrorKind::Unavailable)
            .with_backend(BACKEND)
            .with_message("the TLS handshake failed")
            .with_source(cause.to_string());
        Failure::with(error, Fate::Drop)
    })
}

fn authorities(ca_cert: Option<PathBuf>) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    let Some(path) = ca_cert else {
        let known = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(known.certs);
        return if roots.is_empty() {
            Err(Error::config(
                "the system has no certificates of authorities; name some by `ca_cert`",
            ))
        } else {
            Ok(roots)
        };
    };
    let unreadable = |cause: std::io::Error| {
        Error::config(format!("the file `{}` cannot be read", path.display())).with_source(cause)
    };
    let pem = std::fs::read(&path).map_err(unreadable)?;
    let certificates = CertificateDer::pem_slice_iter(&pem).filter_map(Result::ok);
    let (added, _) = roots.add_parsable_certificates(certificates);
    if added == 0 {
        return Err(Error::config(
            "the file that `ca_cert` names holds no certificates in PEM form",
        ));
    }
    Ok(roots)
}
