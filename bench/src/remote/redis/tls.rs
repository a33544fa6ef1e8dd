//! The same through TLS, with certificates made for the run.

use super::{Filled, WorkLine, blocking_line, reads, work_lines, writes};
use crate::remote::PATIENCE;
use crate::remote::folder::Folder;
use crate::remote::server::Server;
use crate::run::Run;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use redis::{Client, IntoConnectionInfo, TlsCertificates};
use std::fs;
use std::path::Path;

const LINES: [WorkLine; 5] = [
    ("redis/tls-get-1", "redis GET 100 B through TLS, 1 task", reads(1), 1.0),
    ("redis/tls-get-16", "redis GET 100 B through TLS, 16 tasks", reads(16), 1.3),
    ("redis/tls-get-256", "redis GET 100 B through TLS, 256 tasks", reads(256), 2.0),
    ("redis/tls-set-16", "redis SET with expiry 100 B through TLS, 16 tasks", writes(16), 1.3),
    ("redis/tls-set-256", "redis SET with expiry 100 B through TLS, 256 tasks", writes(256), 1.8),
];
const BLOCKING: &str = "redis/tls-blocking";

pub(super) fn run(run: &mut Run) {
    if !LINES.iter().map(|line| line.0).chain([BLOCKING]).any(|id| run.wants(id)) {
        return;
    }
    let folder = Folder::new("tls");
    let authority = certificates(folder.path());
    let file = |name: &str| folder.path().join(name).display().to_string();
    let Some(server) = Server::redis_with(|port| {
        [
            "--port",
            "0",
            "--tls-port",
            &port.to_string(),
            "--tls-cert-file",
            &file("cert.pem"),
            "--tls-key-file",
            &file("key.pem"),
            "--tls-ca-cert-file",
            &file("ca.pem"),
            "--tls-auth-clients",
            "no",
        ]
        .map(str::to_owned)
        .to_vec()
    }) else {
        return;
    };
    let url = format!("rediss://127.0.0.1:{}", server.port);
    let info = url.as_str().into_connection_info().expect("an address");
    let ours = format!("{url}?{PATIENCE}&ca_cert={}", file("ca.pem"));
    let filled = Filled::new(server, ours, info, |info| {
        let root_cert = Some(authority.clone().into_bytes());
        Client::build_with_tls(info, TlsCertificates { client_tls: None, root_cert })
    });
    work_lines(run, &filled, &LINES);
    let title = "redis GET 100 B through TLS, blocking, one thread";
    blocking_line(run, &filled, BLOCKING, title);
}

/// Writes `ca.pem`, `cert.pem` and `key.pem`, and returns the first.
fn certificates(folder: &Path) -> String {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().expect("a key"))
        .expect("an authority");
    let key = KeyPair::generate().expect("a key");
    let server = CertificateParams::new(vec!["127.0.0.1".to_owned()])
        .expect("a name")
        .signed_by(&key, &authority)
        .expect("a certificate");
    for (file, pem) in
        [("ca.pem", authority.pem()), ("cert.pem", server.pem()), ("key.pem", key.serialize_pem())]
    {
        fs::write(folder.join(file), pem).expect("certificates can be written");
    }
    authority.pem()
}
