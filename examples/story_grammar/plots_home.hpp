// SPDX-License-Identifier: MIT
/// @file
/// @brief Plots that happen at home, between a child and a grown-up.
#pragma once

#include <vector>

#include "plot.hpp"

namespace story_grammar {

/// @brief The plots at home.
inline const std::vector<Plot>& home_plots() {
  static const std::vector<Plot> plots = {
      {"lost_toy",
       R"([7*<intro> [2*{A}|{He}] had a {toy}, and {he} [loved it very much|took it everywhere|loved it more than all
{his} other toys]. ~<one_day>, {A}|3*<one_day>, <a_girl>] could not find {his} {toy}. [{He} looked under the bed and
behind the door.|{He} looked in the kitchen and under the table.|{He} looked in every room.] [It was not there.|But
the {toy} was gone.] {A} <sad>.
~["What is wrong, {A}?"|"Why are you so sad?"] asked {his} {mom}. "I lost my {toy}," said {A}. "Where did you play
with it last?" asked {his} {mom}. {A} thought [hard|for a long time]. "I was [#spot under the apple tree|at the
pond|in the sand box|on the old bench]!" {he} said.
~They went [#spot to the apple tree|to the pond|to the sand box|to the old bench] together. [There was the {toy},
[under a leaf|in the tall grass]!|The {toy} was there, [wet from the rain|a bit dirty|all alone], but it was fine.|A
little bird sat there, and next to it was the {toy}!] {A} <glad>. "Thank you, {Mom}!" {he} said[ and held the {toy}
tight| with a big smile|].
~[From that day on, {A} always put the {toy} [back in its place|next to {his} pillow] at night.|2*<learned> it helps
to stop and think when something is lost.|That night, {A} and the {toy} slept well.])",
       R"({A} cannot find {his} {toy}. {His} {mom} helps {him} think of where {he} played, and they find it [#spot
under the apple tree|at the pond|in the sand box|on the old bench].)"},

      {"broken_thing",
       R"([7*<intro> [2*{A}|{He}] [loved to play with {his} {color} ball|had a {color} ball and played with it every
day]. ~[One rainy day, {A} played in the house.|One cold day, {A} played in the house.|One day, {A} took the ball
into the house.]|3*One [rainy|cold] day, <a_girl> played with a {color} ball in the house.] "[Please do|Do] not throw
it in here," said {his} {mom}. But {A} did not listen. Crash! The ball hit the {color2} {breakable}, and it broke[
into many pieces|].
~{A} was [afraid|scared]. [{He} hid the pieces [under the bed|behind a chair].|{He} wanted to run away and hide.|]
Then {his} {mom} came in. ["Where is my {breakable}?"|"What was that noise?"|"What happened here?"] {his} {mom}
asked. {A} [looked at the floor|felt {his} face get hot]. "I broke your {breakable}," {he} said. "I am [so|very]
sorry."
~{His} {mom} <hugged>. "Thank you for telling me the truth," said {his} {mom}. [They cleaned up together.|They fixed
it with glue.|{A} helped to clean up.]
~[3*<learned> it is [best|always good] to tell the truth, even when it is hard.|2*From that day on, {A} only played
with the ball outside.|{A} felt light and happy again, because {he} had told the truth.])",
       R"({A} breaks {his} {mom}'s {breakable} with a ball. {He} is afraid, but {he} tells the truth and is
forgiven.)"},

      {"night_noise",
       R"([7*<intro> [2*{A}|{He}] did not like the dark[ at all|]. ~One night, {A}|3*One [dark|cold|windy] night,
<a_girl>] [was in bed|lay in bed|woke up] and heard a noise. [#noise Tap, tap, tap!|Scratch, scratch, scratch!|Whoo,
whoo!|Bump, bump, bump!] {A} [pulled the blanket over {his} head|hid under the blanket|held {his} pillow tight].
[#noise Tap, tap, tap!|Scratch, scratch, scratch!|Whoo, whoo!|Bump, bump, bump!] There it was again.
~["{Mom}, please come! There is a monster!" called {A}.|{A} called {his} {mom}. "There is a monster!" {he} said.]
{His} {mom} came with a [little|small|bright] lamp. "[Let us|We will] look together," said {his} {mom}. {A} [was
scared, but {he} took {his} {mom}'s hand|held on to {his} {mom} and got out of bed]. They went [slowly |]to the
[#noise window|door|window|door].
~[#noise It was only a branch of the tree. The wind made it tap on the glass.|It was only the [gray|black|white] cat.
It wanted to come in because it was cold.|It was only an owl in the tree. It was singing to the moon.|It was only the
dog. It was playing with a ball in the hall.] {A} [began to laugh|laughed and laughed|had to laugh]. {He} went back
to bed [and slept well|and closed {his} eyes|with a smile].
~[3*<learned> [things are not so scary when you look at them|the dark is not so bad when you are not alone].|2*After
that, {A} was not afraid of the dark any more.|And there were no more noises that night.]{+Twist})",
       R"({A} hears a noise at night and is afraid. {His} {mom} comes with a lamp, and they see that it is only
[#noise a branch at the window|the cat at the door|an owl in the tree|the dog in the hall].)"},

      {"cake",
       R"([7*<intro> ~[It was grandma's birthday.|One day, grandma was coming to visit.|One rainy day, there was no
one to play with.] {A} wanted to [bake|make] a cake for {his} grandma|3*<one_day>, <a_girl> wanted to [bake|make] a
cake for {his} grandma]. {He} mixed flour, eggs and milk in a big bowl. Then {he} put in a [big |]cup of sugar. [That
is what {he} thought.|But {he} did not look at the box.|]
~[Soon|After a while] the cake was [done|ready]. [It smelled good.|] {A} took a bite. "Yuck!" {he} said. It was not
sugar. It was salt! {A} <sad>.
~"[We all make mistakes|That can happen to anyone], {A}," said {his} dad. "[Let us|You can] try again." This time {A}
[tasted the sugar first|looked at every box first]. The new cake was soft and sweet. [2*|{He} put {fruits} on
top.|{He} put a {color} candle on top.]
~Grandma [ate two big pieces|took a big bite]. "[This is the best cake of all|How good it is]!" she said. {A} <glad>.
[3*<learned> you can [always |]try again when something goes wrong.|2*{He} never mixed up salt and sugar again.|They
laughed about the salt and ate the whole cake.])",
       R"({A} bakes a cake for {his} grandma but takes salt for sugar. {He} tries again, and the new cake is good.)"},

      {"seed",
       R"([7*<intro> [2*{A}|{He}] [liked to be in the garden|loved {his} garden|liked to see things grow].
~<one_day>, {A}|3*<one_day>, <a_girl>] got a [tiny|small|little] seed from {his} {mom}. {He} made a hole in the
[ground|garden] and put the seed in. {He} gave it [some |a little |]water. {He} waited [all morning|until lunch|and
waited]. But nothing [happened|came up].
~"[Why does it not grow?|My seed does not work!|It is too slow!]" said {A}. "[A seed needs time|Good things need
time|It is sleeping in the ground]," said {his} {mom}. "Give it water every day." [So {A} did.|{A} did not like to
wait, but {he} did it.|{A} did that, and {he} sang to it, too.]
~[Then one day|One morning|After two weeks], {A} saw [something green|a small green leaf]. "It is growing!" {he}
[shouted|called]. The plant grew [taller and taller|bigger every day]. [At last|In the summer], there was a big
{flower} in the garden. [It was as big as {A}'s head!|It was the best {flower} on the street.|] {A} <glad>.
~[3*<learned> good things take time.|2*{He} kept one seed for the next year.|"You were right, {Mom}," said {A}. "It
was good to wait."])",
       R"({A} plants a seed and finds it hard to wait. {He} waters it every day, and at last a big {flower} grows.)"},

      {"sick_day",
       R"([7*<intro> [2*{A}|{He}] had a [good|best] friend named {B}. ~<one_day>, {B} did not come out to play|3*One
[cold|rainy|gray] day, a {girl} named {A} waited for {his} friend {B}. But {B} did not come]. {A} went to {B}'s
house. "{He2} is sick in bed," said {B}'s mom. {A} <sad>.
~"{Mom}, can we make some {soup} for {B}?" {he} asked. "[What a kind idea|Yes, that is a good idea]," said {his}
{mom}. They [cooked|made] the soup in a big pot. [#gift {A} also drew a picture.|{A} also took a book.|{A} also
picked a {color} flower.]
~{A} [carried|took] the warm soup to {B}. {B} sat up in bed and ate [all of it|every bit]. [#gift Then {he2} put the
picture on the wall.|Then {A} read {him2} a story from the book.|Then {he2} put the flower next to the bed.] "[I feel
better now|Thank you, {A}|You are a good friend]," said {B}.
~[The next day|Two days later|After three days], {B} was well, and they played outside again. [3*<learned> a kind
thing can help a friend feel better.|2*And when {A} was sick, {B} came with soup.|{A} <glad>.])",
       R"({B} is sick, so {A} makes {soup} and brings it to {him2}. {B} gets well, and they play again.)"},

      {"bedtime",
       R"([7*<intro> [2*{A}|{He}] [never wanted to go to bed|did not like to go to bed]. ~One [night|evening],
{A}|3*One [night|evening], <a_girl>] said, "I am not tired! I want to [play|stay up] all night." "[All right, you can
try it|Very well, let us see]," said {his} {mom}. So {he} [played with {his} {toy}|built a tower|drew a
picture|looked at a book]. Then {he} [jumped on the bed|danced around the room|sang a song].
~The moon came up. {A} began to [yawn|rub {his} eyes]. [{His} head was heavy.|] At last {he} fell asleep on the
[floor|stairs|rug].
~The next day, {A} was so tired [that {he} fell asleep in {his} food|that {he} could not play|that {he} put {his}
shoes on the wrong feet]. "[Now I know why|I see]," said {A}. "[I need my sleep|Sleep is good for me], {Mom}."
~That night, {A} [went to bed early|put on {his} pajamas right after dinner]. {His} {mom} told {him} a story about a
[little star|sleepy bear|small boat]. ["Good night, {Mom}," said {A}.|Soon {A} was asleep.] [2*{+MoralValue}A good
sleep makes a good day.|In the morning, {he} was the first one up.|{He} had the best dreams.])",
       R"({A} does not want to sleep and stays up. {He} is so tired the next day that {he} is glad to go to bed
early.)"},
  };
  return plots;
}

}  // namespace story_grammar
