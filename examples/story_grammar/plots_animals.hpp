// SPDX-License-Identifier: MIT
/// @file
/// @brief Plots about animals, and about children who meet animals.
#pragma once

#include <vector>

#include "plot.hpp"

namespace story_grammar {

/// @brief The plots with animals.
inline const std::vector<Plot>& animal_plots() {
  static const std::vector<Plot> plots = {
      {"hurt_animal",
       R"(<limb=[#limb wing|leg]><pet=[#limb {winged}|{legged}]><go=[#limb fly|run]>[7*<intro> [2*{A}|{He}] [loved
animals|liked to walk in the woods|liked to help]. ~<one_day>, {A}|3*<one_day>, <a_girl>] [heard a soft sound|saw
something small] [under a bush|behind a tree|in the tall grass|next to the path]. It was a little {pet}. Its {limb}
was hurt, and it could not {go}. "[Poor little {pet}|You poor thing]," said {A}. "[I will help you|Do not be
afraid]." {He} carried it home in [{his} hat|a box|{his} arms].
~{His} {mom} [put|tied] a [soft|white] cloth around the {limb}. {A} gave the {pet} [water and bread|something to
eat|some warm food]. [2*|Day by day, the {limb} got better.]
~[After a week|After many days|Then one morning], the {pet} could {go} again! "[The woods are its home|It has a
family in the woods]," said {his} {mom}. So {A} took the {pet} back to the [trees|woods]. "Goodbye, little {pet}!"
{he} [said|called].
~[#gift The next [day|morning], there was a [red berry|shiny stone|pretty leaf] at {A}'s door. {A} knew who had left
it there.|But the {pet} did not forget {A}. It came to {his} window [every morning|every spring].|Later, {A} saw the
{pet} again. It had two little babies with it.] [2*<learned> it is good to be kind to animals.|2*<learned> animals
are happy when they are free.|{A} <glad>.])",
       R"({A} finds a little {pet} with a hurt {limb} and takes care of it. When it can {go} again, {he} lets it go
home.)"},

      {"caterpillar",
       R"([7*<intro> [2*{A}|{He}] [liked little animals|liked to look under leaves]. ~<one_day>, {A}|3*<one_day>,
<a_girl>] found a [fat|small|green] caterpillar on a leaf. {He} put it in a [#jar jar|box] with [many|fresh] leaves.
The caterpillar ate and ate.
~But one morning, the caterpillar did not [eat|move] any more. It was in a little brown bed. "Is it sick?" asked {A}.
"[No, it is only sleeping|No, just wait and see]," said {his} {mom}. [{A} looked at it every morning.|It was hard to
wait.]
~[After a week|After many days], the little brown bed [opened|moved]! Something came out, very slowly. It was a
{color} butterfly! "[It has wings|Look at that]!" [shouted|said] {A}.
~{A} wanted to keep it in the [#jar jar|box]. But the butterfly wanted to [get out|see the sky]. So {he} [opened the
window|took it to the garden], and it flew away. [3*<learned> [some things need time to become beautiful|you must
wait for the best things].|2*Every summer, {A} looked for {color} butterflies and waved.|"Come back soon!" {A}
called, and {he} waved.]{+Twist})",
       R"({A} keeps a caterpillar. It stops eating and {he} is worried, but it turns into a {color} butterfly, and
{he} lets it fly.)"},

      {"found_pet",
       R"([7*<intro> [2*{A}|{He}] wanted to have a pet[ very much| more than anything|]. ~<one_day>,
{he}|3*<one_day>, <a_girl>] found a [little|small] {baby} [in front of the house|in the park|behind a tree|next to
the road]. {A} gave it some food and a warm bed. [The {baby} slept next to {him}.|] "[Can I keep it|May it stay],
{Mom}?" asked {A}. "[Only if it has no home|Somebody may be looking for it]," said {his} {mom}.
~The next day, they saw a sign on a [tree|wall], with a picture of the {baby}! {A} <sad>. But {he} thought,
"[Somebody is crying now|Somebody misses it very much]."
~So they went to the house on the sign. [#owner An old woman|An old man|A little girl|A little boy] opened the door.
"My {baby}! You found it!" [#owner she|he|she|he] said[ with tears of joy|]. "[#visit You can come and play with it
any time|One day it will have babies. Then you can have one]," said [#owner the old woman|the old man|the little
girl|the little boy].
~[#visit {A} went there every [week|Sunday].|And the next year, {A} had a tiny {baby} of {his} own.] [3*<learned> [it
feels good to do the right thing|doing the right thing can be hard, but it is good].|{He} <glad>.|{He} was glad that
{he} had done the right thing.])",
       R"({A} finds a lost {baby} and would like to keep it, but {he} takes it back to its home.)"},

      {"race",
       R"(<animal={fast}><other={slow}>[7*<animal_intro> [2*{A}|{He}] was [very fast|fast and proud]. {His} friend
was a [slow|little] {other} named {B}.|3*One day, a <trait> {animal} named {A} met a {other} named {B}.] "[I am
faster than you|You are so slow|Nobody is as fast as I am]!" said {A}[ and laughed|]. "Let us have a race, then,"
said {B}.
~[One, two, three, go!|So they did.] {A} ran [away |]like the wind. {B} went [slowly, step by step|one step at a
time]. [{A} wanted to show off, so {he} jumped over a big hole. But {he} fell in!|{A} looked back to laugh at {B}. So
{he} did not see the hole and fell in!|{A} wanted to take the short way. But there was a deep hole, and {he} fell
in!] "Help!" {he} called.
~[After a while|At last], {B} came by. {He2} could win now. But {B} stopped and pulled {him} out [with a stick|with a
long branch]. ["Why did you stop?" asked {A}.|"You did not win because of me," said {A}.] "[You are my friend|A
friend is more than a race]," said {B}.
~{A} felt bad. "I am sorry," {he} said. They walked to the end together. [3*<learned> [it is better to be kind than
to be fast|it is not nice to laugh at others].|2*{A} never laughed at a slow friend again.|From that day on, they
always walked together.]{+Conflict})",
       R"({A} the {animal} laughs at {B} the slow {other}. In a race {A} falls into a hole, and {B} stops to help
{him}.)"},

      {"greedy",
       R"(<animal={hungry}><other={forest_friend}>[7*<animal_intro> [2*{A}|{He}] [was always hungry|liked to eat more
than anything]. {His} friend was a {other} named {B}. ~One day, they|3*One day, a hungry {animal} named {A} and {his}
friend {B} the {other} went for a walk. They] found a [tree|basket] full of {fruits}. "[How lovely|What luck]! We can
share them," said {B}. But {A} wanted all of them. "[I saw them first|They are all for me|They are mine]!" {he} said.
{B} [was sad and went away|went home with an empty tummy].
~{A} [ate one, and two, and three|ate and ate and did not stop]. Soon [all|almost all] the {fruits} were gone. Then
{his} tummy began to hurt. "Oh, oh!" {he} cried.
~{B} heard {him}. {He2} brought {him} [some warm tea|water and a warm leaf] and [stayed with {him} all night|sat with
{him} until {he} was well]. "I am sorry, {B}," said {A}. ["I am still your friend," said {B}.|]
~The next [day|week], {A} found more {fruits}. This time {he} gave [half|the best ones] to {B}. [2*<learned> [it is
better to share than to have it all|too much of a good thing can hurt].|2*They tasted even better with a friend.|They
sat in the sun and ate together.]{+Conflict})",
       R"({A} the {animal} eats all the {fruits} and does not share with {B}. {He} gets a tummy ache, and {B} takes
care of {him}.)"},

      {"small_helper",
       R"(<animal={tiny}><other={huge}>[7*<animal_intro> [2*{A}|{He}] was very small. Near {him} lived a big {other}
named {B}.|3*One day, a small {animal} named {A} met a big {other} named {B}.] "[Can I play with you|May I be your
friend]?" asked {A}. "[You are too small|Go home]," said {B}. {A} <sad> and went away.
~[Some days later|The next day|A week later], {A} heard a loud cry. It was {B}! [#trouble {B} had a thorn in {his2}
foot.|{B} was caught in a net.|{B} had lost {his2} key in a very small hole in a tree.] "[Help me|Please help me]!"
{B} cried. "[I can help you|Let me try]," said {A}.
~[#trouble {He} took hold of the thorn and pulled and pulled.|{He} bit the rope again and again.|{He} went into the
little hole and felt in the dark.] [2*|It was hard work.|It took a long time.] [#trouble Plop! The thorn came
out.|Snap! The rope broke, and {B} was free.|There was the key! {A} brought it out.] "[I was wrong|I am sorry], {A},"
said {B}. "You are small, but [you are brave|you have a big heart]. [Will you be my friend|Can we be friends now]?"
"[Yes|Of course]!" said {A}.
~[3*<both_learned> even the smallest friend can be a big help.|2*From then on, {A} rode on {B}'s back every
day.|After that, nobody said that {A} was too small.])",
       R"({B} the big {other} thinks that {A} the {animal} is too small to be a friend, but then only {A} can help
to [#trouble pull out a thorn|open a net|find a key].)"},

      {"mushroom",
       R"(<animal={forest_friend}>[7*<animal_intro> [2*{A}|{He}] had a [small|little] house under a [big|red]
mushroom. ~One day, it began to rain. {A} sat under {his} mushroom|3*One day, it began to rain. A {animal} named {A}
sat under a [big|red] mushroom] and was dry. Then a wet {wet} came. "[I am so cold|I am all wet]," it said. "[Come
in|Please come in]," said {A}.
~Then a wet {cold_friend} came. "[Is there room for me|Can I come in too]?" it asked. [So they moved close
together.|{A} and the {wet} moved close together.]
~Then a [hungry|big] wolf came. "[Is somebody hiding in there|Is there something to eat in there]?" it asked.
"[Nobody fits under such a little mushroom|No, this mushroom is much too small for that]," said {A} [in a brave
voice|very loudly]. So the wolf went away.
~[Then the rain stopped|At last the sun came out]. "Look!" said the {cold_friend}. The mushroom had grown and was
twice as big! [2*|"That is why we all fit in," said {A}.] [2*<learned> there is always room for a friend.|<learned>
when you share, there is enough for all.|{A} was never alone again, because {his} new friends came every
day.]{+Twist})",
       R"(In the rain, {A} the {animal} lets wet animals come under {his} mushroom. {He} sends a wolf away, and the
mushroom grows.)"},

      {"paper_boat",
       R"(<animal={forest_friend}>[7*<animal_intro> [2*{A}|{He}] had a [good|best] friend, a duck named
{B}.|3*<one_day>, a <trait> {animal} named {A} and {his} friend {B} the duck played by the river.] {B} could swim,
but {A} could not. "I want to be on the water too," said {A}. "[Let us make a boat|We can make a boat]!" said {B}.
~They made a boat from [#boat a big leaf|a piece of wood|half a nut]. {A} [got in|sat down in it]. "This is
wonderful!" {he} said. But then the wind pushed the boat [away|faster and faster]. [The boat went right to a big
stone.|Water came into the boat.] "Help!" {he} cried.
~"[Hold on|I am coming], {A}!" called {B}. {He2} [put {his2} head under the boat and pushed|took the boat in {his2}
beak and pulled] until it came back to the [grass|land]. "You saved me, {B}!" said {A}.
~[#again The next time, they tied a long rope to the boat, and {B} held it.|Then {B} taught {him} to swim, a little
every day.] [3*<learned> a good friend [is there when you need one|makes you brave].|2*They had many happy days on
the river.|And they were friends for ever.])",
       R"({A} the {animal} goes on the river in a boat made of [#boat a leaf|wood|half a nut]. The wind takes it
away, and {B} the duck saves {him}.)"},
  };
  return plots;
}

}  // namespace story_grammar
