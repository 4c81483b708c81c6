//! The words in braces of rules and commands, and whether both can mean anything.
//!
//! `{topic t}`, `{group g}` and `{id p}` are the names of this run, `{node leader t-0}` is a node's
//! number; a command also has `{bootstrap}`, `{files}` and the words of `[with]`.

use super::conversation::Conversation;
use super::switchboard::Party;
use crate::proxy::rule::Rule;

/// Something between braces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Word {
    /// A topic's name on the broker.
    Topic(String),
    /// A group's.
    Group(String),
    /// A producer's transactional id.
    Id(String),
    /// The number of a node.
    Node(Party),
    /// Where a program reaches the brokers.
    Bootstrap,
    /// Where it finds its files.
    Files,
    /// Said on the command line, or under `[with]`.
    With(String),
}

impl Word {
    fn parse(conversation: &Conversation, text: &str) -> Result<Self, String> {
        let (kind, of) = text.split_once(' ').unwrap_or((text, ""));
        let known = |is: bool, word: Self| match is {
            true => Ok(word),
            false => Err(format!("{{{text}}}: the conversation has no {of}")),
        };
        match kind {
            "topic" => known(conversation.topics.contains_key(of), Self::Topic(of.into())),
            "group" if !of.is_empty() => Ok(Self::Group(of.into())),
            "id" => known(conversation.producers.contains_key(of), Self::Id(of.into())),
            "node" => Ok(Self::Node(Party::parse(of)?)),
            "bootstrap" => Ok(Self::Bootstrap),
            "files" => Ok(Self::Files),
            word if conversation.with.contains_key(word) => Ok(Self::With(word.into())),
            _ => Err(format!(
                "{{{text}}}: expected {{topic t}}, {{group g}}, {{id p}}, {{node leader t-0}}, \
                 {{bootstrap}}, {{files}} or a word under [with]"
            )),
        }
    }
}

/// A text cut at its words: what stands before each, the word, and what is left behind the last.
pub(super) type Cut<'t> = (Vec<(&'t str, Word)>, &'t str);

/// Finds the words of a text.
///
/// # Errors
/// Where a brace is not closed, or holds no word.
pub(super) fn cut<'t>(conversation: &Conversation, text: &'t str) -> Result<Cut<'t>, String> {
    let (mut found, mut rest) = (Vec::new(), text);
    while let Some((before, after)) = rest.split_once('{') {
        let (word, behind) =
            after.split_once('}').ok_or_else(|| format!("{text}: a brace is not closed"))?;
        found.push((before, Word::parse(conversation, word)?));
        rest = behind;
    }
    Ok((found, rest))
}

/// Whether a rule can be one, whatever its words come to.
pub(super) fn check_rule(conversation: &Conversation, text: &str) -> Result<(), String> {
    let (found, rest) = cut(conversation, text)?;
    let mut filled = String::new();
    for (before, word) in found {
        filled.push_str(before);
        filled.push_str(match word {
            Word::Node(_) => "1",
            Word::Bootstrap | Word::Files | Word::With(_) => {
                return Err("a rule has no use for words of commands".into());
            }
            _ => "x",
        });
    }
    filled.push_str(rest);
    let rule: Rule = filled.parse().map_err(|error| format!("rule {filled:?}: {error}"))?;
    match rule.name.is_empty() {
        true => Ok(()),
        false => Err("a rule is named by as = \"…\", not by name=".into()),
    }
}

/// Whether a name is one that a rule can have.
pub(super) fn is_rule_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
}

/// Whether a command can be run, whatever its words come to.
pub(super) fn check_program(conversation: &Conversation, command: &[String]) -> Result<(), String> {
    if command.is_empty() {
        return Err("expected a program and its arguments".into());
    }
    command.iter().try_for_each(|word| cut(conversation, word).map(drop))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::library;

    #[test]
    fn words_in_braces_are_found_and_unknown_ones_are_refused() {
        let conversation = library::find("S1").unwrap().unwrap();
        let (found, rest) = cut(&conversation, "a {id p} b {node leader t-1}c").unwrap();
        assert_eq!(found[0], ("a ", Word::Id("p".into())));
        assert_eq!(found[1].0, " b ");
        assert_eq!(rest, "c");
        for text in ["{id q}", "{topic u}", "{", "{nothing}", "{node somebody}"] {
            assert!(cut(&conversation, text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_rule_is_checked_before_its_words_have_a_meaning() {
        let conversation = library::find("S1").unwrap().unwrap();
        let check = |text| check_rule(&conversation, text);
        assert_eq!(check("cut EndTxn transactional-id={id p} deliver-after=1s"), Ok(()));
        assert_eq!(check("black-hole any both broker={node transaction p}"), Ok(()));
        for text in ["hold Endtxnn", "hold EndTxn name=x", "hold EndTxn client-id={bootstrap}"] {
            assert!(check(text).is_err(), "{text}");
        }
    }
}
