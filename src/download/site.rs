//! The kinds of server: what a site's answers mean, and whether there are credentials for it.

use super::login::Login;
use super::remote::Access;
use super::request::Head;
use super::{DownloadError, hub, kaggle};

/// A kind of server.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Site<'a> {
    /// Any server, without a login.
    Plain,
    Kaggle(&'a kaggle::Dataset),
    Hub(&'a hub::Repository),
    /// A store elsewhere.
    Store(&'a Access),
}

impl Site<'_> {
    /// Credentials for the site, if there are any.
    pub(super) fn login(self) -> Result<Option<Login>, DownloadError> {
        let (login, help) = match self {
            Site::Plain => return Ok(None),
            Site::Store(access) => return Ok(access.login().cloned()),
            Site::Kaggle(dataset) => (
                kaggle::login(),
                format!(
                    "correct or remove it: public data sets such as {} need no credentials",
                    dataset.page()
                ),
            ),
            Site::Hub(_) => (hub::login(), hub::LOGIN_HELP.to_owned()),
        };
        login.map_err(|message| DownloadError::Site { status: None, message, help })
    }

    /// Credentials for the first request. Kaggle's are sent only where it asks for them; the Hub
    /// allows more requests to those who are logged in.
    pub(super) fn first_login(self) -> Result<Option<Login>, DownloadError> {
        match self {
            Site::Plain | Site::Kaggle(_) => Ok(None),
            Site::Hub(_) | Site::Store(_) => self.login(),
        }
    }

    /// The error for a status that isn't a success.
    pub(super) fn refusal(
        self,
        url: &str,
        status: u16,
        head: &Head,
        body: &[u8],
        login: Option<&Login>,
    ) -> DownloadError {
        match self {
            Site::Plain => DownloadError::of_status(url.to_owned(), status),
            Site::Kaggle(dataset) => kaggle::refusal(dataset, status, body, login),
            Site::Hub(repository) => hub::refusal(repository, url, status, head, login),
            Site::Store(access) => access.refusal(url, status, body),
        }
    }

    /// The status and message of an error that came with the status of a success.
    pub(super) fn error_in(self, body: &[u8]) -> Option<(u16, String)> {
        match self {
            Site::Plain | Site::Hub(_) | Site::Store(_) => None,
            Site::Kaggle(_) => kaggle::error_in(body),
        }
    }

    /// Whether it explains its refusals, knows logins and redirects to files.
    pub(super) fn has_api(self) -> bool {
        !matches!(self, Site::Plain)
    }

    /// Whether it may answer with a message in JSON where a file is expected.
    pub(super) fn sends_messages(self) -> bool {
        matches!(self, Site::Kaggle(_))
    }
}

/// Foreign text as one line of printable characters. None if nothing is left.
pub(super) fn one_line(text: &str) -> Option<String> {
    let line: String = text.chars().filter(|letter| !letter.is_control()).take(200).collect();
    Some(line.trim().to_owned()).filter(|line| !line.is_empty())
}
