//! URLs that can be downloaded securely: `https:`, or `http:` on this machine.

use std::fmt;

/// A valid URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    text: String,
    is_local: bool,
}

impl Address {
    /// Parses a URL.
    ///
    /// # Errors A sentence, for an invalid URL, for `http:` to another machine, which could be
    /// tampered with, and for credentials, which would be written to run records.
    pub(crate) fn parse(text: &str) -> Result<Address, String> {
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(format!("`{text}` is not a valid URL"));
        };
        let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
        // Before any message that contains the text.
        if host.contains('@') {
            return Err(
                "a URL with credentials is not supported: it would be written to run records"
                    .to_owned(),
            );
        }
        if host.is_empty()
            || text.chars().any(|letter| letter.is_whitespace() || letter.is_control())
        {
            return Err(format!("`{text}` is not a valid URL"));
        }
        let is_local = is_local(host);
        match scheme {
            "https" => {}
            "http" if is_local => {}
            "http" => return Err(format!("`http:` to {host} is not secure")),
            other => return Err(format!("`{other}:` URLs are not supported")),
        }
        Ok(Address { text: text.to_owned(), is_local })
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// The last segment of the path.
    pub(crate) fn file_name(&self) -> &str {
        let (path, _) = self.parts();
        path.rsplit('/').next().unwrap_or_default()
    }

    /// The URL of another file in the same folder.
    pub(crate) fn sibling(&self, name: &str) -> Address {
        let (path, rest) = self.parts();
        let folder = path.rsplit_once('/').map_or(path, |(folder, _)| folder);
        Address { text: format!("{folder}/{name}{rest}"), is_local: self.is_local }
    }

    /// The URL of an encoded path below this one, which has no query.
    pub(super) fn below(&self, path: &str) -> Address {
        Address { text: format!("{}/{path}", self.text), is_local: self.is_local }
    }

    /// The URL that a `Location` or `Link` header of a response from here names.
    ///
    /// # Errors
    /// As [`Address::parse`], and for an insecure URL where this one is secure.
    pub(super) fn join(&self, target: &str) -> Result<Address, String> {
        let target = target.split('#').next().unwrap_or_default();
        let (scheme, _) = self.text.split_once("://").unwrap_or_default();
        let (path, _) = self.parts();
        let text = if target.contains("://") && !target.starts_with(['/', '?']) {
            target.to_owned()
        } else if let Some(rest) = target.strip_prefix("//") {
            format!("{scheme}://{rest}")
        } else if target.starts_with('/') {
            format!("{scheme}://{}{target}", self.host())
        } else if target.starts_with('?') || target.is_empty() {
            format!("{path}{target}")
        } else {
            // The path may be empty, so that the last slash is that of the scheme.
            let start = scheme.len() + "://".len() + self.host().len();
            let folder =
                path.rfind('/').filter(|end| *end >= start).map_or(path, |end| &path[..end]);
            format!("{folder}/{target}")
        };
        let joined = Address::parse(&text)?;
        match self.is_secure() && !joined.is_secure() {
            true => Err(format!("`http:` to {} is not secure", joined.host())),
            false => Ok(joined),
        }
    }

    /// Whether credentials for this URL may be sent to another one: the scheme, the host and the
    /// port are equal.
    pub(super) fn is_same_origin(&self, other: &Address) -> bool {
        self.is_secure() == other.is_secure() && self.host() == other.host()
    }

    fn is_secure(&self) -> bool {
        self.text.starts_with("https:")
    }

    /// The host with its port.
    pub(super) fn host(&self) -> &str {
        let rest = self.text.split_once("://").map_or("", |(_, rest)| rest);
        rest.split(['/', '?', '#']).next().unwrap_or_default()
    }

    /// Whether the host is this machine.
    pub(super) fn is_local(&self) -> bool {
        self.is_local
    }

    /// The path, from its first slash to the query or fragment.
    pub(super) fn path(&self) -> &str {
        let (before, _) = self.parts();
        let start = before.find("://").map_or(0, |at| at + "://".len());
        before[start..].find('/').map_or("/", |at| &before[start + at..])
    }

    /// The part before the query or fragment, and the rest.
    fn parts(&self) -> (&str, &str) {
        self.text.split_at(self.text.find(['?', '#']).unwrap_or(self.text.len()))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Whether `host`, which may include a port, is this machine.
fn is_local(host: &str) -> bool {
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((name, _)) => name,
        None => host.split(':').next().unwrap_or_default(),
    };
    let is_loopback = |address: std::net::IpAddr| address.is_loopback();
    name == "localhost" || name.parse().is_ok_and(is_loopback)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_secure_urls_are_valid() {
        for text in [
            "https://a.b/c.pth",
            "http://localhost:8000/x",
            "http://127.0.0.1/x",
            "http://[::1]:80/x",
        ] {
            assert_eq!(Address::parse(text).unwrap().as_str(), text);
        }
        let refused = |text| Address::parse(text).unwrap_err();
        assert!(refused("http://a.b/c").contains("`http:` to a.b is not secure"));
        assert!(refused("http://localhost.a.b/c").contains("is not secure"));
        for text in ["https://me:secret@a.b/c", "https://me:sec ret@a.b/c"] {
            assert!(refused(text).contains("records"));
        }
        for text in ["https:a.b", "https://", "https:///x", "ftp://a.b/c", "https://a b/c", "x"] {
            refused(text);
        }
    }

    #[test]
    fn locations_are_joined_as_rfc_3986_says() {
        let base = Address::parse("https://a.b:1/c/d?e=f").unwrap();
        for (target, joined) in [
            ("https://x.y/z?q=1#top", "https://x.y/z?q=1"),
            ("//x.y/z", "https://x.y/z"),
            ("/z?u=https://x", "https://a.b:1/z?u=https://x"),
            ("z", "https://a.b:1/c/z"),
            ("?g", "https://a.b:1/c/d?g"),
        ] {
            assert_eq!(base.join(target).unwrap().as_str(), joined, "{target}");
        }
        assert_eq!(
            Address::parse("https://a.b").unwrap().join("z").unwrap().as_str(),
            "https://a.b/z"
        );
        for target in ["http://a.b/c", "http://127.0.0.1/c", "ftp://a.b/c", "https://me:x@a.b/c"] {
            base.join(target).unwrap_err();
        }
        let local = Address::parse("http://127.0.0.1:1/c").unwrap();
        assert!(
            local.join("http://127.0.0.1:2/d").is_ok_and(|other| !other.is_same_origin(&local))
        );
        assert!(local.join("/d").unwrap().is_same_origin(&local));
        assert!(!base.is_same_origin(&Address::parse("https://a.b/c/d").unwrap()));
    }

    #[test]
    fn file_names_and_siblings() {
        let address = Address::parse("https://a.b/c/model.safetensors?download=true").unwrap();
        assert_eq!(address.file_name(), "model.safetensors");
        assert_eq!(
            address.sibling("config.json").as_str(),
            "https://a.b/c/config.json?download=true"
        );
    }
}
