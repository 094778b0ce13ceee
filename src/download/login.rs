//! Credentials for a server: a secret that is sent and never shown, and where it came from.

use super::Address;
use super::sigv4::AwsCredentials;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use std::fmt;
use std::path::Path;

/// Credentials.
#[derive(Clone)]
pub(crate) struct Login {
    secret: Secret,
    origin: String,
}

#[derive(Clone)]
enum Secret {
    /// The value of an `Authorization` header.
    Header(String),
    /// A key with which every request is signed.
    Aws(AwsCredentials),
}

impl Login {
    /// A token, from a place such as "KAGGLE_API_TOKEN" or a file.
    ///
    /// # Errors
    /// A sentence without the token, if it can't be sent.
    pub(super) fn bearer(token: &str, origin: String) -> Result<Login, String> {
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(format!(
                "the token in {origin} isn't one: it contains blanks or other characters that no token has"
            ));
        }
        Ok(Login { secret: Secret::Header(format!("Bearer {token}")), origin })
    }

    /// A user name with a key.
    ///
    /// # Errors
    /// A sentence without the key, if it can't be sent.
    pub(super) fn basic(user: &str, key: &str, origin: String) -> Result<Login, String> {
        if user.contains(':') || user.is_empty() || key.is_empty() {
            return Err(format!(
                "the user name or the key in {origin} is empty or contains a colon"
            ));
        }
        let encoded = BASE64_STANDARD.encode(format!("{user}:{key}"));
        Ok(Login { secret: Secret::Header(format!("Basic {encoded}")), origin })
    }

    /// A key of AWS or of a server that is compatible with S3.
    pub(super) fn aws(credentials: AwsCredentials, origin: String) -> Login {
        Login { secret: Secret::Aws(credentials), origin }
    }

    /// Where it came from, for messages.
    pub(crate) fn origin(&self) -> &str {
        &self.origin
    }

    /// The headers of a request with a body of this SHA-256, if it has one.
    pub(super) fn headers(
        &self,
        method: &str,
        address: &Address,
        sha256: Option<&str>,
    ) -> Vec<(&'static str, String)> {
        match &self.secret {
            Secret::Header(header) => vec![("authorization", header.clone())],
            Secret::Aws(credentials) => {
                credentials.sign(method, address, sha256, jiff::Timestamp::now())
            }
        }
    }
}

/// The trimmed text of a file with credentials. None if there is none.
///
/// # Errors
/// A sentence, if it can't be read.
pub(super) fn content(path: &Path) -> Result<Option<String>, String> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text.trim().to_owned())),
        Err(error)
            if matches!(
                error.kind(),
                std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(format!("failed to read the credentials in {}: {error}", path.display())),
    }
}

/// The value of an environment variable that isn't empty.
pub(super) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Login from {}", self.origin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_rfc_7617_and_6750_and_hidden() {
        let basic = Login::basic("Aladdin", "open sesame", "a file".into()).unwrap();
        let address = Address::parse("https://a.b/c").unwrap();
        let header = |login: &Login| login.headers("GET", &address, None).remove(0).1;
        assert_eq!(header(&basic), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        assert_eq!(format!("{basic:?}"), "Login from a file");
        assert_eq!(header(&Login::bearer("abc", "x".into()).unwrap()), "Bearer abc");
        for wrong in ["", "a b", "a\nb", "é"] {
            assert!(!Login::bearer(wrong, "x".into()).unwrap_err().contains("a b"));
        }
        assert!(Login::basic("a:b", "c", "x".into()).is_err());
    }
}
