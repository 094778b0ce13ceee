//! Trusted root certificates: Mozilla's list, or the file in `SSL_CERT_FILE`, for networks with an
//! intercepting proxy.

use std::path::Path;
use ureq::tls::{PemItem, RootCerts, parse_pem};

/// The variable that OpenSSL and other programs use.
const VARIABLE: &str = "SSL_CERT_FILE";

/// # Errors
/// A sentence, if the file can't be read or contains no certificate.
pub(super) fn roots() -> Result<RootCerts, String> {
    match std::env::var_os(VARIABLE).filter(|path| !path.is_empty()) {
        Some(path) => in_file(Path::new(&path)),
        None => Ok(RootCerts::WebPki),
    }
}

fn in_file(path: &Path) -> Result<RootCerts, String> {
    let failed = |reason: String| {
        format!("failed to read the certificates in {} ({VARIABLE}): {reason}", path.display())
    };
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
        Err(failed("it contains no certificate".to_owned()))
    } else {
        Ok(certificates.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_certificates_is_an_error() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let message = in_file(file.path()).unwrap_err();
        let expected = format!(
            "failed to read the certificates in {} (SSL_CERT_FILE): it contains no certificate",
            file.path().display()
        );
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
