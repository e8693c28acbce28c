// What this browser remembers: choices for good, jobs and the key as long as the tab lives. It may refuse both.

function store(which) {
  return {
    get(name) {
      try {
        return JSON.parse(which().getItem(`rhapsode.${name}`));
      } catch {
        return null;
      }
    },
    /** Returns whether there was room. */
    set(name, value) {
      try {
        which().setItem(`rhapsode.${name}`, JSON.stringify(value));
        return true;
      } catch {
        return false;
      }
    },
    drop(name) {
      try {
        which().removeItem(`rhapsode.${name}`);
      } catch {
        // Nothing was kept.
      }
    },
  };
}

export const choices = store(() => localStorage);
export const tab = store(() => sessionStorage);
