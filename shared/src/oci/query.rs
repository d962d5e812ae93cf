//! The query of a request's URL.
//!
//! Values are taken as they stand, except media types: tags and numbers have nothing that is ever escaped.

use super::escaping::unescaped;

/// A query, without its `?`. Clients may add parameters that mean nothing here, such as containerd's `ns`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Query<'a>(Option<&'a str>);

impl<'a> Query<'a> {
    /// What stands behind the `?` of a URL, if it has one.
    pub const fn new(text: Option<&'a str>) -> Self {
        Self(text)
    }

    /// The value of the first parameter of this name.
    pub fn get(self, name: &str) -> Option<&'a str> {
        let mut pairs = self.0.unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
    }

    /// The same, of a parameter whose value is a media type, in which clients escape `/` and `+`.
    pub fn media_type(self, name: &str) -> Option<String> {
        Some(unescaped(&unescaped(self.get(name)?, "/", "%2F"), "+", "%2B"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_parameters_by_their_whole_name() {
        let check = |query, name, expect| assert_eq!(Query::new(query).get(name), expect, "{query:?} {name}");
        check(None, "n", None);
        check(Some(""), "n", None);
        check(Some("n"), "n", None);
        check(Some("n="), "n", Some(""));
        check(Some("n=1&n=2"), "n", Some("1"));
        check(Some("ns=a&n=b=c"), "n", Some("b=c"));
        check(Some("notartifactType=a"), "artifactType", None);
    }

    #[test]
    fn media_types_may_be_escaped() {
        for query in
            ["t=application/spdx+json", "t=application%2Fspdx%2Bjson", "a=b&t=application%2fspdx%2bjson"]
        {
            assert_eq!(Query::new(Some(query)).media_type("t").as_deref(), Some("application/spdx+json"));
        }
        assert_eq!(Query::new(Some("x=a/b")).media_type("t"), None);
    }
}
