//! What only a person knows: passphrases, passwords and PINs, asked for once and one at a time.
//!
//! `ssh` asks through its askpass program, a script in the master's private directory. The script passes the question
//! and the answer through two FIFOs there, so that a secret is in no argument, variable or file.
use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use autoprof_plugin::prelude::*;

/// The askpass program. Its parts are builtins of the shell, so that the answer is in no process's arguments.
pub(crate) const SCRIPT: &str = r#"#!/bin/sh
d=${0%/*}
printf '%s\n%s\0' "${SSH_ASKPASS_PROMPT-}" "$1" >"$d/question" || exit 1
[ "${SSH_ASKPASS_PROMPT-}" = none ] && exit 0
{ IFS= read -r given && IFS= read -r answer; } <"$d/answer" || exit 1
[ "$given" = yes ] || exit 1
printf '%s\n' "$answer"
"#;

/// How `ssh` begins the question for a passphrase of a key file. Read for one purpose: such an answer serves all hosts.
const PASSPHRASE: &str = "Enter passphrase for key ";

/// A question of `ssh`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Question {
    pub(crate) kind: QuestionKind,
    pub(crate) text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum QuestionKind {
    /// A secret is wanted.
    Secret,
    /// Only told, such as that a security key waits to be touched.
    Notice,
    /// May something be done?
    Confirm,
}

impl Question {
    /// Reads what the script wrote, without the final zero byte.
    pub(crate) fn read(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes);
        let (kind, text) = text.split_once('\n').unwrap_or(("", &text));
        let kind = match kind {
            "none" => QuestionKind::Notice,
            "confirm" => QuestionKind::Confirm,
            _ => QuestionKind::Secret,
        };
        Self { kind, text: autoprof_plugin::core::text::one_line(text).trim_end_matches([':', ' ']).to_owned() }
    }

    /// Whether it is for the passphrase of a key of ours.
    pub(crate) fn is_passphrase(&self) -> bool {
        self.text.starts_with(PASSPHRASE)
    }
}

/// An answer and how often it was replaced; no secret: the person declined.
#[derive(Clone)]
struct Known {
    turn: u64,
    answer: Option<Secret>,
}

/// What one `ssh` was answered, by question: the same question again means that the answer was wrong.
pub(crate) type Given = HashMap<String, u64>;

/// Answers of this process, kept because many hosts share one key: the person is asked once, also when they decline.
pub(crate) struct Secrets {
    prompter: Arc<dyn Prompter>,
    /// Held by whoever is asking: two prompts on one terminal cannot be told apart.
    turn: Arc<tokio::sync::Mutex<()>>,
    known: Mutex<HashMap<(String, String), Known>>,
}

impl Secrets {
    pub(crate) fn new(prompter: Arc<dyn Prompter>) -> Self {
        Self { prompter, turn: Arc::default(), known: Mutex::default() }
    }

    /// Answers a question about a host; none: there is nobody to ask, or they declined.
    ///
    /// `shared`: a passphrase's question cannot come from a host, so that its answer may serve other hosts.
    pub(crate) async fn answer(
        self: &Arc<Self>,
        host: &str,
        question: &Question,
        shared: bool,
        given: &mut Given,
    ) -> Option<Secret> {
        let shared = shared && question.is_passphrase();
        let scope = if shared { String::new() } else { host.to_owned() };
        let key = (scope, question.text.clone());
        let wrong = given.get(&question.text).copied();
        let turn = Arc::clone(&self.turn).lock_owned().await;
        let known = lock(&self.known).get(&key).cloned();
        let usable = known.filter(|known| wrong.is_none_or(|wrong| known.turn > wrong));
        let known = match usable {
            Some(known) => known,
            None => {
                let text = if shared { question.text.clone() } else { format!("{host}: {}", question.text) };
                let secrets = Arc::clone(self);
                let next = wrong.map_or(0, |wrong| wrong + 1);
                let asked = tokio::task::spawn_blocking(move || {
                    // The turn ends in here: a caller who gave up lets no second prompt in.
                    let _turn = turn;
                    let known = Known { turn: next, answer: secrets.prompter.secret(&text) };
                    lock(&secrets.known).insert(key, known.clone());
                    known
                });
                asked.await.ok()?
            }
        };
        given.insert(question.text.clone(), known.turn);
        known.answer
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_read_as_the_script_writes_them() {
        let question = Question::read(b"\nEnter passphrase for key '/root/.ssh/id': ");
        assert_eq!((question.kind, question.is_passphrase()), (QuestionKind::Secret, true));
        assert_eq!(question.text, "Enter passphrase for key '/root/.ssh/id'");
        assert_eq!(Question::read(b"none\nConfirm user presence").kind, QuestionKind::Notice);
    }
}
