//! Access to a store on a web server or in S3: the credentials, and the meaning of refusals.

use crate::download::DownloadError;
use crate::download::login::Login;
use crate::download::site::one_line;

/// Access to a store.
#[derive(Debug)]
pub(crate) struct Access {
    login: Option<Login>,
    is_s3: bool,
}

impl Access {
    pub(super) fn http(login: Option<Login>) -> Access {
        Access { login, is_s3: false }
    }

    pub(super) fn s3(login: Option<Login>) -> Access {
        Access { login, is_s3: true }
    }

    pub(in crate::download) fn login(&self) -> Option<&Login> {
        self.login.as_ref()
    }

    pub(super) fn is_s3(&self) -> bool {
        self.is_s3
    }

    /// The error for a status that isn't a success, as the end of a sentence.
    pub(in crate::download) fn refusal(
        &self,
        url: &str,
        status: u16,
        body: &[u8],
    ) -> DownloadError {
        if matches!(status, 404 | 410) {
            return DownloadError::NotFound { url: url.to_owned(), status };
        }
        let code = code(body).filter(|_| self.is_s3);
        let code = code.map_or(String::new(), |code| format!(": {code}"));
        let (message, help) = match (status, &self.login) {
            (401 | 403, None) => ("it asks for credentials".to_owned(), self.login_help()),
            (401 | 403, Some(login)) => {
                (format!("it refuses the credentials of {}", login.origin()), self.login_help())
            }
            (405 | 501, _) => (
                "it accepts no uploads".to_owned(),
                "allow PUT requests on the server, or push to a folder or an S3 bucket",
            ),
            (300..=400, _) if self.is_s3 => {
                ("it is in another region".to_owned(), "set AWS_REGION to that of the bucket")
            }
            (413, _) => ("it accepts no files of this length".to_owned(), "raise its limit"),
            (429, _) => ("it limits the number of requests".to_owned(), "try again later"),
            (500.., _) => ("it doesn't work at the moment".to_owned(), "try again later"),
            _ => ("it refuses".to_owned(), "check the address"),
        };
        let message = format!("{message} (status {status}{code})");
        DownloadError::Site { status: Some(status), message, help: help.to_owned() }
    }

    fn login_help(&self) -> &'static str {
        match self.is_s3 {
            true => {
                "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, to a key that may read the bucket"
            }
            false => "set PIPE_CACHE_TOKEN, or PIPE_CACHE_USER and PIPE_CACHE_PASSWORD",
        }
    }
}

/// The code in an error of S3, which is XML.
fn code(body: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(body);
    let (_, rest) = text.split_once("<Code>")?;
    one_line(rest.split_once("</Code>")?.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_the_status_and_the_code() {
        let access = Access::s3(None);
        let body = b"<Error><Code>InvalidAccessKeyId</Code><Message>no</Message></Error>";
        let error = access.refusal("https://x/y", 403, body);
        assert_eq!(error.to_string(), "it asks for credentials (status 403: InvalidAccessKeyId)");
        assert!(matches!(access.refusal("https://x/y", 404, body), DownloadError::NotFound { .. }));
        assert_eq!(code(b"<Code>a\n\x1b[1m</Code>").as_deref(), Some("a[1m"));
        assert_eq!(code(b"<Code>"), None);
    }
}
