//! The certificate that the node signs itself, where none is configured.

use super::certificate::end;
use super::error::HttpError;
use crate::kubelet::node::NodeFacts;
use jiff::{SignedDuration, Timestamp};
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, SanType, date_time_ymd};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// A certificate and its key, PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Files {
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
}

/// How long a certificate is good, days, as those that kubelets sign themselves.
const DAYS: i64 = 365;
/// How long before its end another one is made, days.
const DAYS_BEFORE: i64 = 30;

/// The node's own certificate in `folder`, made there if it is not whole or about to end. Blocking.
///
/// # Errors
/// It cannot be made or written.
pub(super) fn own_certificate(
    folder: &Path,
    node: &NodeFacts,
    now: Timestamp,
) -> Result<Files, HttpError> {
    let files = Files { certificate: folder.join("kubelet.crt"), key: folder.join("kubelet.key") };
    // The key goes first and is written last: one that is there is that of the certificate.
    let whole = files.certificate.exists() && files.key.exists();
    if whole && end_of(&files.certificate).is_some_and(|end| end > later(now, DAYS_BEFORE)) {
        return Ok(files);
    }
    let failed = |operation, path: &Path| {
        let path = path.to_owned();
        move |source: io::Error| HttpError::File { operation, path, source }
    };
    let (certificate, key) = make(node, now)
        .map_err(|source| HttpError::Certificate { name: node.name.clone(), source })?;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(failed("create folder", folder))?;
    match std::fs::remove_file(&files.key) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            return Err(failed("remove", &files.key)(e));
        }
        _ => {}
    }
    crate::store::replace(&files.certificate, certificate.as_bytes())?;
    write_private(&files.key, key.as_bytes()).map_err(failed("write", &files.key))?;
    Ok(files)
}

/// When the certificate of a file ends; none of what is no certificate.
fn end_of(path: &Path) -> Option<Timestamp> {
    end(&CertificateDer::from_pem_file(path).ok()?)
}

fn later(than: Timestamp, days: i64) -> Timestamp {
    // None is later than the last.
    than.checked_add(SignedDuration::from_hours(24 * days)).unwrap_or(Timestamp::MAX)
}

/// The year, month and day of a moment.
fn day(of: Timestamp) -> (i32, u8, u8) {
    let date = jiff::tz::TimeZone::UTC.to_datetime(of).date();
    let number = |of: i8| u8::try_from(of).unwrap_or(1);
    (date.year().into(), number(date.month()), number(date.day()))
}

/// The certificate and the key for the node's name and addresses.
fn make(node: &NodeFacts, now: Timestamp) -> Result<(String, String), rcgen::Error> {
    let mut params = CertificateParams::new(vec![node.name.clone(), "localhost".to_owned()])?;
    let loopback = ["127.0.0.1", "::1"].iter().filter_map(|ip| ip.parse().ok());
    params
        .subject_alt_names
        .extend(node.ips.iter().copied().chain(loopback).map(SanType::IpAddress));
    params.distinguished_name.push(DnType::CommonName, node.name.as_str());
    // A day before, for clients whose clock is behind.
    let (from, to) = (day(later(now, -1)), day(later(now, DAYS)));
    params.not_before = date_time_ymd(from.0, from.1, from.2);
    params.not_after = date_time_ymd(to.0, to.1, to.2);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate()?;
    Ok((params.self_signed(&key)?.pem(), key.serialize_pem()))
}

/// Writes a file that nobody else may read at any moment, and that is whole once it has its name.
fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    use io::Write as _;
    let temporary = path.with_extension("tmp");
    match std::fs::remove_file(&temporary) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mut file =
        std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    file.write_all(content)?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::{Clients, acceptor};
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_certificate_is_made_once_and_its_key_is_for_root() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("kubelet/pki");
        let node = NodeFacts {
            name: "node-1".into(),
            ips: vec!["10.0.0.1".parse().unwrap()],
            ..NodeFacts::default()
        };
        let now = Timestamp::now();
        let files = own_certificate(&folder, &node, now).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&files.key), mode(&folder)), (0o600, 0o700));
        acceptor(&files.certificate, &files.key, Clients::None).unwrap();
        let before = std::fs::read(&files.certificate).unwrap();
        assert_eq!(own_certificate(&folder, &node, now).unwrap(), files);
        assert_eq!(std::fs::read(&files.certificate).unwrap(), before, "made once");
        // Until it is about to end.
        let last = later(now, DAYS - DAYS_BEFORE - 2);
        own_certificate(&folder, &node, last).unwrap();
        assert_eq!(std::fs::read(&files.certificate).unwrap(), before);
        let last = later(now, DAYS - DAYS_BEFORE + 1);
        own_certificate(&folder, &node, last).unwrap();
        assert_ne!(std::fs::read(&files.certificate).unwrap(), before);
        let before = std::fs::read(&files.certificate).unwrap();
        assert!(end_of(&files.certificate).unwrap() > later(last, DAYS - 2));
        acceptor(&files.certificate, &files.key, Clients::None).unwrap();
        // One whose key could not be written is made anew, not taken with the key of another.
        std::fs::create_dir(folder.join("kubelet.tmp")).unwrap();
        let last = later(now, 3 * DAYS);
        own_certificate(&folder, &node, last).unwrap_err();
        std::fs::remove_dir(folder.join("kubelet.tmp")).unwrap();
        own_certificate(&folder, &node, last).unwrap();
        acceptor(&files.certificate, &files.key, Clients::None).unwrap();
        // Half of it is none.
        std::fs::remove_file(&files.key).unwrap();
        own_certificate(&folder, &node, now).unwrap();
        assert_ne!(std::fs::read(&files.certificate).unwrap(), before);
        acceptor(&files.certificate, &files.key, Clients::None).unwrap();
    }
}
