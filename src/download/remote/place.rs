//! The places of stores: a folder, `https://HOST/PATH`, or `s3://BUCKET/PREFIX`.

use super::access::Access;
use super::folder::Folder;
use super::profile::Profile;
use super::transport::Objects;
use super::web::Web;
use crate::download::login::{Login, variable};
use crate::download::{Address, DownloadError};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use std::path::PathBuf;

/// The credentials for web servers: a token, or a user with a password.
const TOKEN: &str = "PIPE_CACHE_TOKEN";
const USER: &str = "PIPE_CACHE_USER";
const PASSWORD: &str = "PIPE_CACHE_PASSWORD";

/// The characters that a path in a URL has encoded: all that S3 encodes to sign it.
const ENCODED: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// A path as a part of a URL.
pub(super) fn encoded(path: &str) -> String {
    utf8_percent_encode(path, ENCODED).to_string()
}

/// The place that a text names, and the text itself as far as it may be shown.
///
/// # Errors
/// If it names none, or the credentials for it can't be used.
pub(super) fn parse(text: &str) -> Result<(String, Objects), DownloadError> {
    let Some((scheme, rest)) = text.split_once("://") else {
        return match text {
            "" => Err(malformed("an empty text is no place of a cache".to_owned())),
            path => Ok((path.to_owned(), Objects::Folder(Folder::at(PathBuf::from(path))))),
        };
    };
    if rest.contains(['?', '#']) {
        return Err(malformed(
            "the URL of a cache has no query: it would be written to logs".to_owned(),
        ));
    }
    let web = match scheme {
        "s3" => s3(rest)?,
        _ => http(text)?,
    };
    Ok((text.trim_end_matches('/').to_owned(), Objects::Web(web)))
}

fn malformed(message: String) -> DownloadError {
    let help = "name a folder, `https://HOST/PATH` or `s3://BUCKET/PREFIX`".to_owned();
    DownloadError::Site { status: None, message, help }
}

fn http(text: &str) -> Result<Web, DownloadError> {
    let base = Address::parse(text.trim_end_matches('/')).map_err(malformed)?;
    let login = match (variable(TOKEN), variable(USER), variable(PASSWORD)) {
        (Some(token), ..) => Some(Login::bearer(&token, format!("${TOKEN}"))),
        (None, Some(user), Some(password)) => {
            Some(Login::basic(&user, &password, format!("${USER}")))
        }
        (None, None, None) => None,
        (None, ..) => Some(Err(format!("only one of ${USER} and ${PASSWORD} is set"))),
    };
    let login = login.transpose().map_err(|message| DownloadError::Site {
        status: None,
        message,
        help: format!("set ${TOKEN}, or both ${USER} and ${PASSWORD}, or none of them"),
    })?;
    Ok(Web::at(base, Access::http(login)))
}

fn s3(rest: &str) -> Result<Web, DownloadError> {
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    if bucket.is_empty() || !bucket.bytes().all(is_plain) {
        return Err(malformed(format!("`s3://{rest}` names no bucket")));
    }
    let prefix = prefix.trim_matches('/');
    let profile = Profile::load();
    let endpoint = match profile.endpoint.as_deref() {
        Some(endpoint) => format!("{}/{bucket}", endpoint.trim_end_matches('/')),
        // A certificate of AWS covers one label.
        None if bucket.contains('.') => {
            format!("https://s3.{}.amazonaws.com/{bucket}", profile.region)
        }
        None => format!("https://{bucket}.s3.{}.amazonaws.com", profile.region),
    };
    let prefix = if prefix.is_empty() { String::new() } else { format!("/{}", encoded(prefix)) };
    let base = Address::parse(&format!("{endpoint}{prefix}")).map_err(|message| {
        let help = "correct AWS_ENDPOINT_URL or AWS_REGION".to_owned();
        DownloadError::Site { status: None, message, help }
    })?;
    Ok(Web::at(base, Access::s3(profile.login())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_folders_or_urls_and_others_are_refused_without_their_secrets() {
        for text in ["cache", "../other/cache", "/mnt/a b", "https://a.b/c/", "s3://bucket/a/b/"] {
            let (place, _) = parse(text).unwrap();
            assert_eq!(place, text.trim_end_matches('/'), "{text}");
        }
        for text in [
            "",
            "ftp://a.b/c",
            "http://a.b/c",
            "https://",
            "https://user:secret@a.b/c",
            "https://a.b/c?token=secret",
            "s3://",
            "s3:///prefix",
            "s3://user:secret@bucket/prefix",
        ] {
            let Err(error) = parse(text) else { panic!("{text}") };
            assert!(!error.to_string().contains("secret") || text.starts_with("s3"), "{error}");
        }
    }

    #[test]
    fn paths_are_encoded_once() {
        assert_eq!(encoded("images/a b#é%.png"), "images/a%20b%23%C3%A9%25.png");
        assert_eq!(encoded("a-b_c.d~e/f"), "a-b_c.d~e/f");
    }
}
