//! An address on the web that may be asked: `https:`, or `http:` on this machine. Knows nothing of requests.

use std::fmt;

/// An address that may be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    text: String,
    is_local: bool,
}

impl Address {
    /// Understands an address.
    ///
    /// # Errors
    /// A sentence, for plain `http:` to another machine, where anybody on the way could put other bytes in; for a
    /// password in the address, which would be written into records; for what is no address.
    pub fn parse(text: &str) -> Result<Address, String> {
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(format!("`{text}` is no address on the web"));
        };
        let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
        if host.is_empty()
            || text.chars().any(|letter| letter.is_whitespace() || letter.is_control())
        {
            return Err(format!("`{text}` is no address on the web"));
        }
        if host.contains('@') {
            return Err("an address with a user or a password in it would be written into records"
                .to_owned());
        }
        let is_local = is_local(host);
        match scheme {
            "https" => {}
            "http" if is_local => {}
            "http" => return Err(format!("`http:` to {host} could be changed on the way")),
            other => return Err(format!("`{other}:` is no way to fetch from the web")),
        }
        Ok(Address { text: text.to_owned(), is_local })
    }

    /// The whole address.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The last part of its path.
    pub fn file_name(&self) -> &str {
        let (path, _) = self.parts();
        path.rsplit('/').next().unwrap_or_default()
    }

    /// The address of another file beside it.
    pub fn beside(&self, name: &str) -> Address {
        let (path, rest) = self.parts();
        let folder = path.rsplit_once('/').map_or(path, |(folder, _)| folder);
        Address { text: format!("{folder}/{name}{rest}"), is_local: self.is_local }
    }

    /// Whether it is this machine that is asked.
    pub(super) fn is_local(&self) -> bool {
        self.is_local
    }

    /// What comes before a question or a mark in the file, and what comes from there on.
    fn parts(&self) -> (&str, &str) {
        self.text.split_at(self.text.find(['?', '#']).unwrap_or(self.text.len()))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Whether `host`, with its port, is this machine.
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
    fn only_what_cannot_be_changed_on_the_way_may_be_asked() {
        for text in [
            "https://a.b/c.pth",
            "http://localhost:8000/x",
            "http://127.0.0.1/x",
            "http://[::1]:80/x",
        ] {
            assert_eq!(Address::parse(text).unwrap().as_str(), text);
        }
        let refused = |text| Address::parse(text).unwrap_err();
        assert!(refused("http://a.b/c").contains("`http:` to a.b could be changed"));
        assert!(refused("http://localhost.a.b/c").contains("could be changed"));
        assert!(refused("https://me:secret@a.b/c").contains("records"));
        for text in ["https:a.b", "https://", "https:///x", "ftp://a.b/c", "https://a b/c", "x"] {
            refused(text);
        }
    }

    #[test]
    fn names_and_neighbors() {
        let address = Address::parse("https://a.b/c/model.safetensors?download=true").unwrap();
        assert_eq!(address.file_name(), "model.safetensors");
        assert_eq!(
            address.beside("config.json").as_str(),
            "https://a.b/c/config.json?download=true"
        );
    }
}
