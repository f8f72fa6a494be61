setInterval(() => {}, 60000); // as a server or another task does
