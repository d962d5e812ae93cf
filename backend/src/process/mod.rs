//! This process as the operating system sees it, and those that it starts: environment variables, open files, and folders
//! of its own.

pub(crate) mod child_environment;
pub(crate) mod descriptors;
pub mod own_environment;
mod own_folder;

pub(crate) use own_folder::OwnFolder;
