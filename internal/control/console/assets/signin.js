// A form with data-passkey asks there what is to be signed, has the browser
// sign it with a passkey (or make one, with data-new), and is sent with that.
for (const form of document.querySelectorAll("form[data-passkey]")) {
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const notice = document.getElementById("notice");
    notice.textContent = "";
    try {
      const answer = await fetch(form.dataset.passkey, { method: "POST", body: new URLSearchParams(new FormData(form)) });
      if (!answer.ok) throw new Error("the console did not answer; load the page again");
      const { publicKey } = await answer.json();
      const credential = "new" in form.dataset
        ? await navigator.credentials.create({ publicKey: PublicKeyCredential.parseCreationOptionsFromJSON(publicKey) })
        : await navigator.credentials.get({ publicKey: PublicKeyCredential.parseRequestOptionsFromJSON(publicKey) });
      form.elements.credential.value = JSON.stringify(credential.toJSON());
      form.submit();
    } catch (fault) {
      notice.textContent = "No passkey: " + fault.message;
    }
  });
}
