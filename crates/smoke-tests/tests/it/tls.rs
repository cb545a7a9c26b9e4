//! Certificates, good and bad.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use omnitool_smoke_tests::{ErrorKind, Options, Report, Roots, Status, TestOutcome, run};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
};
use tempfile::TempDir;

use crate::{
    impatient,
    server::{Reply, Server, healthy},
    test, with,
};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// An authority that the client may trust.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        // Its own name: a certificate whose issuer has its own name passes for self-signed.
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// What a server shows that is `name` until `end`.
    fn certify(&self, name: &str, end: SystemTime) -> Arc<ServerConfig> {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_after = end.into();
        let certificate: CertificateDer<'static> =
            params.signed_by(&key, &self.0).unwrap().der().clone();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        Arc::new(config)
    }

    /// The way of a user who trusts it: its certificate in a file.
    fn roots(&self) -> Roots {
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("ca.pem");
        std::fs::write(&file, self.0.pem()).unwrap();
        Roots::load(&file).unwrap()
    }
}

fn in_days(days: u32) -> SystemTime {
    // An hour more, in which the test runs.
    SystemTime::now() + DAY * days + DAY / 24
}

/// The report about a healthy app that shows `certificate` to a client that trusts `roots`.
fn report(certificate: Arc<ServerConfig>, roots: Roots) -> Report {
    let server = Server::start_tls(certificate, healthy);
    run(&Options { roots, ..crate::options(&server) })
}

/// The message of a run in which no encrypted connection could be agreed on.
fn tls_error(report: &Report) -> &str {
    assert_eq!(with(report, TestOutcome::Failed).len(), 7, "{report}");
    assert!(report.tests.iter().all(|test| test.kind == Some(ErrorKind::Tls)), "{report}");
    assert_eq!(report.startup.attempts.len(), 1, "waiting makes no certificate better: {report}");
    &report.tests[0].message
}

#[test]
fn a_good_certificate_passes_with_its_days() {
    let authority = Authority::new("right");
    let report = report(authority.certify("127.0.0.1", in_days(90)), authority.roots());
    assert_eq!(report.status, Status::Passed, "{report}");
    assert_eq!(with(&report, TestOutcome::Passed).len(), 7, "{report}");
    assert_eq!(test(&report, "certificate").message, "valid for 90 more days");
    assert_eq!(report.certificate_days_left, Some(90));
}

#[test]
fn a_certificate_with_few_days_left_is_warned_of() {
    let authority = Authority::new("right");
    let report = report(authority.certify("127.0.0.1", in_days(3)), authority.roots());
    assert_eq!(report.status, Status::Passed, "{report}");
    assert_eq!(with(&report, TestOutcome::Warned), ["certificate"], "{report}");
    assert_eq!(test(&report, "certificate").message, "valid for 3 more days; less than 14");
    assert!(report.summary.starts_with("6 passed, 0 failed, 0 skipped, 1 warned in "), "{report}");
    assert!(report.summary.ends_with("TLS certificate: valid for 3 more days; less than 14"));
}

#[test]
fn an_expired_certificate_fails() {
    let authority = Authority::new("right");
    let expired = authority.certify("127.0.0.1", SystemTime::now() - DAY);
    let report = report(expired, authority.roots());
    assert!(tls_error(&report).contains("certificate expired"), "{report}");
}

#[test]
fn another_hosts_certificate_fails() {
    let authority = Authority::new("right");
    let report = report(authority.certify("example.com", in_days(90)), authority.roots());
    assert!(tls_error(&report).contains("not valid for name"), "{report}");
}

#[test]
fn a_certificate_of_an_unknown_authority_fails() {
    let authority = Authority::new("right");
    let unknown = "UnknownIssuer";
    for roots in [Authority::new("other").roots(), Roots::Public] {
        let report = report(authority.certify("127.0.0.1", in_days(90)), roots);
        assert!(tls_error(&report).contains(unknown), "{report}");
    }
}

#[test]
fn a_handshake_that_never_goes_on_ends_with_the_deadline() {
    let server = Server::start(|_| Reply::Silence);
    let base_url = server.url().replace("http:", "https:").parse().unwrap();
    let report = run(&Options { base_url, ..impatient(&server) });
    assert_eq!(with(&report, TestOutcome::Failed).len(), 7, "{report}");
    assert_eq!(test(&report, "certificate").kind, Some(ErrorKind::Timeout), "{report}");
    assert!(report.duration_ms < 2 * report.timeout_ms, "{report}");
}

#[test]
fn a_handshake_that_drips_ends_with_the_deadline() {
    // The head of a TLS record, then its bytes one by one.
    let server = Server::start(|_| Reply::Endless {
        head: "\u{16}\u{3}\u{3}\u{3f}\u{7f}",
        body: b"\x02",
        pause: Duration::from_millis(5),
    });
    let base_url = server.url().replace("http:", "https:").parse().unwrap();
    let report = run(&Options { base_url, ..impatient(&server) });
    assert_eq!(with(&report, TestOutcome::Failed).len(), 7, "{report}");
    assert!(report.duration_ms < 2 * report.timeout_ms, "{report}");
}

#[test]
fn a_file_without_certificates_is_refused() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("ca.pem");
    std::fs::write(&file, "no certificate").unwrap();
    let error = Roots::load(&file).unwrap_err();
    assert!(error.to_string().ends_with("holds no certificate"), "{error}");
}
