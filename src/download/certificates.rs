//! Whose certificates are believed: those on Mozilla's list, or those in the file that `SSL_CERT_FILE` names, for networks
//! whose proxy speaks for every server. Knows no addresses.

use std::path::Path;
use ureq::tls::{PemItem, RootCerts, parse_pem};

/// The variable that other programs read as well.
const VARIABLE: &str = "SSL_CERT_FILE";

/// Whose certificates are believed.
///
/// # Errors
/// A sentence, where the file can't be read or holds no certificate.
pub(super) fn roots() -> Result<RootCerts, String> {
    match std::env::var_os(VARIABLE).filter(|path| !path.is_empty()) {
        Some(path) => in_file(Path::new(&path)),
        None => Ok(RootCerts::WebPki),
    }
}

fn in_file(path: &Path) -> Result<RootCerts, String> {
    let failed = |reason: String| format!("{VARIABLE} names {}: {reason}", path.display());
    let text = std::fs::read(path).map_err(|error| failed(error.to_string()))?;
    let mut certificates = Vec::new();
    for item in parse_pem(&text) {
        if let PemItem::Certificate(certificate) =
            item.map_err(|error| failed(error.to_string()))?
        {
            certificates.push(certificate);
        }
    }
    if certificates.is_empty() {
        Err(failed("there is no certificate in it".to_owned()))
    } else {
        Ok(certificates.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_certificates_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let message = in_file(file.path()).unwrap_err();
        let expected =
            format!("SSL_CERT_FILE names {}: there is no certificate in it", file.path().display());
        assert_eq!(message, expected);
        assert!(in_file(Path::new("/missing.pem")).unwrap_err().contains("/missing.pem"));
        std::fs::write(
            file.path(),
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        )
        .unwrap();
        assert!(matches!(in_file(file.path()), Ok(RootCerts::Specific(_))));
    }
}
